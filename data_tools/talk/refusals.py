"""What is not understood, and what can't be known: sounds, other languages, today, your life."""

from data_tools.talk.grammar import Talk

NOT_UNDERSTOOD = "I did not catch that."
HELD_OUT_SOUNDS = ("knocks", "chords")  # heard in tests alone
# espeak-ng's voice -> sentences of our own; the last is for validation, the two before for tests.
LANGUAGES = {
    "de": (
        "Wie spät ist es jetzt?", "Ich habe heute keine Zeit.", "Kannst du mir bitte helfen?",
        "Das Wetter ist heute schön.", "Wo ist der nächste Bahnhof?", "Mach bitte das Licht aus.",
        "Meine Schwester wohnt in Hamburg.", "Ich möchte einen Kaffee.", "Guten Morgen zusammen.",
        "Was gibt es heute zu essen?", "Er liest gerne alte Bücher.", "Danke für alles.",
        "Wie viele Tage hat der März?", "Der Hund schläft im Garten.", "Bis morgen dann.",
    ),
    "fr-fr": (
        "Quelle heure est-il?", "Je ne comprends pas la question.", "Où est la gare?",
        "Il fait très beau aujourd'hui.", "Je voudrais un café, merci.", "Bonjour tout le monde.",
        "Ma sœur habite à Lyon.", "Allume la lumière dans la cuisine.", "Comment ça va?",
        "Nous partons demain matin.", "Le chat dort sur la chaise.", "Merci beaucoup pour tout.",
        "Qu'est-ce qu'on mange ce soir?", "Il lit un vieux livre.", "À demain mes amis.",
    ),
    "es": (
        "¿Qué hora es?", "No entiendo la pregunta.", "¿Dónde está la estación?",
        "Hoy hace mucho calor.", "Quiero un café con leche.", "Buenos días a todos.",
        "Mi hermana vive en Sevilla.", "Apaga la luz del baño.", "¿Cómo estás hoy?",
        "Mañana vamos a la playa.", "El perro duerme en el jardín.", "Muchas gracias por todo.",
        "¿Cuántos días tiene marzo?", "Ella lee un libro viejo.", "Hasta luego, amigos.",
    ),
    "it": (
        "Che ore sono?", "Non capisco la domanda.", "Dov'è la stazione?", "Oggi fa molto freddo.",
        "Vorrei un caffè, per favore.", "Buongiorno a tutti.", "Mia sorella abita a Torino.",
        "Accendi la luce in cucina.", "Come stai oggi?", "Domani andiamo al mare.",
        "Il gatto dorme sulla sedia.", "Grazie mille di tutto.", "Quanti giorni ha marzo?",
        "Lui legge un vecchio libro.", "A domani, amici.",
    ),
    "pl": (
        "Która jest godzina?", "Nie rozumiem pytania.", "Gdzie jest dworzec?",
        "Dzisiaj jest bardzo zimno.", "Poproszę kawę z mlekiem.", "Dzień dobry wszystkim.",
        "Moja siostra mieszka w Krakowie.", "Zgaś światło w kuchni.", "Jak się masz?",
        "Jutro jedziemy nad morze.", "Pies śpi w ogrodzie.", "Dziękuję za wszystko.",
        "Ile dni ma marzec?", "On czyta starą książkę.", "Do zobaczenia jutro.",
    ),
    "nl": (
        "Hoe laat is het?", "Ik begrijp de vraag niet.", "Waar is het station?",
        "Het is vandaag erg koud.", "Ik wil graag een kop koffie.", "Goedemorgen allemaal.",
        "Mijn zus woont in Utrecht.", "Doe het licht uit in de keuken.", "Hoe gaat het met jou?",
        "Morgen gaan we naar zee.", "De hond slaapt in de tuin.", "Bedankt voor alles.",
        "Hoeveel dagen heeft maart?", "Hij leest een oud boek.", "Tot morgen, vrienden.",
    ),
    "pt": (
        "Que horas são?", "Não entendo a pergunta.", "Onde fica a estação?",
        "Hoje está muito frio.", "Quero um café, por favor.", "Bom dia a todos.",
        "A minha irmã mora no Porto.", "Apaga a luz da cozinha.", "Como estás hoje?",
        "Amanhã vamos à praia.", "O cão dorme no jardim.", "Muito obrigado por tudo.",
        "Quantos dias tem março?", "Ele lê um livro velho.", "Até amanhã, amigos.",
    ),
    "fi": (
        "Paljonko kello on?", "En ymmärrä kysymystä.", "Missä on asema?", "Tänään on kylmä ilma.",
        "Haluaisin kupin kahvia.", "Hyvää huomenta kaikille.", "Siskoni asuu Tampereella.",
        "Sammuta valo keittiöstä.", "Mitä sinulle kuuluu?", "Huomenna menemme rannalle.",
        "Koira nukkuu puutarhassa.", "Kiitos kaikesta.", "Montako päivää on maaliskuussa?",
        "Hän lukee vanhaa kirjaa.", "Nähdään huomenna.",
    ),
}  # fmt: skip
# Heard in tests alone.
HELD_OUT_LANGUAGES = {
    "sv": (
        "Vad är klockan?", "Jag förstår inte frågan.", "Var ligger stationen?",
        "Det är mycket kallt idag.", "Jag vill ha en kopp kaffe.", "God morgon allihopa.",
        "Min syster bor i Malmö.", "Släck lampan i köket.",
    ),
    "cs": (
        "Kolik je hodin?", "Nerozumím té otázce.", "Kde je nádraží?", "Dnes je velká zima.",
        "Dal bych si kávu.", "Dobré ráno všem.", "Moje sestra bydlí v Brně.", "Zhasni v kuchyni.",
    ),
}  # fmt: skip
TEST_SENTENCES, VALIDATION_SENTENCES = 2, 1  # of each language that is trained on
VARIANTS = ("f2", "f4", "m2", "m3", "m7")  # voices that speak each of the languages

UNKNOWN = (
    Talk(
        skill="now",
        ways=(
            "[What time is it|What's the time|How late is it][| now| in {city}]?",
            "[What day is it|What's the date|What is the date] today?",
            "[What is|What's|How is] the weather [like|] in {city}[| today| tomorrow]?",
            "Will it rain [in {city}|on {weekday}|tomorrow]?",
            "Is it {weather} in {city}?",
            "[Who won|What's the score of] the game of {team}?",
            "What is the stock price of {company}?",
            "What's in the news [today|about {city}|about {company}]?",
            "When does the next [train|bus|plane] to {city} leave?",
        ),
        validation=("Do I need an umbrella in {city}?",),
        test=(
            "Tell me the temperature in {city}.",
            "Did {team} win on {weekday}?",
            "Is {company} up or down today?",
            "Give me the forecast for {weekday}.",
        ),
        answers=(
            "I do not know what is going on in {city} now.",
            "I do not know about {team}, I can not follow games.",
            "I have no news about {company}.",
            "I do not know what happens on {weekday}.",
            "I can not know that, I have no clock and no news.",
        ),
    ),
    Talk(
        skill="your_life",
        ways=(
            "What is the name of {person}?",
            "How old is {person}?",
            "Where did I put {item}?",
            "Where is {item}?",
            "What did I [eat|do|say|buy] [yesterday|on {weekday}|this morning]?",
            "What is the [phone number|birthday|address] of {name}?",
            "Who is {name}?",
            "When is the birthday of {person}?",
            "What [does {person} like|did {person} say]?",
        ),
        validation=("Which school did {person} go to?",),
        test=(
            "Do you remember where I left {item}?",
            "What color are the eyes of {person}?",
            "Is {name} at home?",
            "What's my password?",
        ),
        answers=(
            "I do not know {person}.",
            "I do not know where {item} could be.",
            "I do not know {name}.",
            "I do not know what you do, I only hear you.",
        ),
    ),
    Talk(
        skill="invented",
        ways=(
            "[Who is|What is|Where is|What do you know about] {invented}?",
            "[Please tell|Tell] me about {invented}.",
            "Why was {invented} so important?",
            "Have you heard of {invented}?",
            "[What happened to|Who discovered|What became of] {invented}?",
        ),
        validation=("Explain to me the story of {invented}.",),
        test=("In school they taught us about {invented}.", "How large is {invented}?"),
        answers=("I have never heard of {invented}.", "I do not know {invented}."),
    ),
)
