"""Everyday talk: small talk, feelings, what people tell, what they ask of an assistant itself."""

from data_tools.talk import Talk

EVERYDAY = (
    Talk(
        skill="small_talk",
        ways=(
            "[Hi|Hello|Hey|Oh, hello], I'm {name}.",
            "My name is {name}.",
            "[Hello|Good morning|Good evening], this is {name}.",
            "You can call me {name}.",
        ),
        validation=("People know me as {name}.",),
        test=("{name} is what my friends call me.", "Let me introduce myself, {name}."),
        answers=("Hello {name}, how can I help you?", "Nice to meet you, {name}."),
    ),
    Talk(
        skill="feeling_good",
        ways=(
            "I feel {good} [today|now|this morning|].",
            "[Oh, |]I'm {good} today.",
            "I'm feeling {good}.",
            "[My sister|My friend|Everyone here] says I look {good}, and I am.",
        ),
        validation=("It's one of those days when I'm just {good}.",),
        test=("Guess what, I am so {good} right now.", "Nothing is wrong, I'm {good}."),
        answers=(
            "That is nice, I am glad that you feel {good}.",
            "It is good to hear that you are {good}.",
        ),
    ),
    Talk(
        skill="feeling_bad",
        ways=(
            "I feel {bad} [today|now|this morning|].",
            "[Oh, |]I'm {bad}.",
            "I'm feeling {bad} today.",
            "I have been {bad} [all day|since yesterday|all week].",
        ),
        validation=("To be honest, these days I'm {bad}.",),
        test=("Somehow I'm {bad} and I don't know why.", "Since last night I am {bad}."),
        answers=(
            "I am sorry that you feel {bad}.",
            "I am sorry to hear that you are {bad}, I hope it gets better.",
        ),
    ),
    Talk(
        skill="weather_told",
        ways=(
            "It is {weather} [today|here|outside|in {city}].",
            "[Look, |]it's {weather} again.",
            "In {city} it's {weather}.",
        ),
        validation=("You should see it outside, it's {weather}.",),
        test=("The whole week has been {weather}.", "They say it's {weather} over in {city}."),
        answers=(
            "I see, it is {weather} in {city}.",
            "Thank you for telling me that it is {weather}.",
        ),
    ),
    Talk(
        skill="family",
        ways=(
            "{person} lives in {city}.",
            "{person} moved to {city} [last year|in the summer|in May|].",
            "{person} comes from {city}.",
            "{person} works in {city}.",
        ),
        validation=("{city} is the home of {person}.",),
        test=("We are visiting {person} in {city}.", "{person} found a new house in {city}."),
        answers=("I see, so {person} knows {city} well.", "{city} must be nice for {person}."),
    ),
    Talk(
        skill="likes",
        ways=(
            "I like {hobby}.",
            "I love {hobby} [on weekends|in the evening|with my friends|].",
            "{person} likes {hobby}.",
            "{hobby} is my favorite hobby.",
            "We enjoy {hobby} [on Sundays|together|in the summer].",
        ),
        validation=("In my free time you will find me {hobby}.",),
        test=("Nothing makes me happier than {hobby}.", "For years I have been {hobby}."),
        answers=("{hobby} sounds like a lot of fun.", "That is a nice hobby, {hobby}."),
    ),
    Talk(
        skill="meals",
        ways=(
            "I had {food} for [breakfast|lunch|dinner].",
            "We are having {food} tonight.",
            "I would like some {food}.",
            "{person} is cooking {food}.",
            "I ate too much {food}.",
        ),
        validation=("We have {food} on the table.",),
        test=("It smells like {food} in here.", "I can't stop thinking about {food}."),
        answers=("Enjoy the {food}.", "{food}, that sounds good."),
    ),
    Talk(
        skill="pets",
        ways=(
            "{pet} is called {name}.",
            "{pet} is [sleeping|hungry|playing in the garden|very old|sick today].",
            "I have to feed {pet}.",
            "{pet} has {color} eyes.",
        ),
        validation=("You would love {pet}.",),
        test=("{pet} ran away this morning.", "At home {pet} is waiting for me."),
        answers=("Please give {pet} a hug from me.", "I would like to meet {pet}."),
    ),
    Talk(
        skill="lost",
        ways=(
            "I lost {item}.",
            "I can't find {item}.",
            "I left {item} [at home|in the car|at work|on the bus|in {city}].",
            "Somebody took {item}.",
        ),
        validation=("Have you seen {item}?",),
        test=("I was sure that I put {item} right here.", "{item} must be somewhere."),
        answers=("I hope that you find {item} soon.", "I am sorry, I can not see {item}."),
    ),
    Talk(
        skill="plans",
        ways=(
            "I am going to {place} [today|tomorrow|on {weekday}|with {person}].",
            "On {weekday} we are driving to {city}.",
            "I have to {chore} on {weekday}.",
            "{person} wants to see {place} on {weekday}.",
            "I will be in {city} for {number} days.",
        ),
        validation=("My plan for {weekday} is to see {place}.",),
        test=("If it stays dry we walk to {place}.", "{weekday} is the day when I {chore}."),
        answers=(
            "{place}, that sounds like a good plan.",
            "I hope that you have a nice time in {city}.",
            "All right, on {weekday} you {chore}.",
            "{weekday} sounds good.",
            "All right, have a good day.",
        ),
    ),
    Talk(
        skill="shopping",
        ways=(
            "I bought {thing} [yesterday|today|for {person}|].",
            "I want to buy {thing}.",
            "We need {thing}.",
            "{person} has {thing} in {color}.",
            "My favorite color is {color}.",
        ),
        validation=("There is {thing} in the window of that shop.",),
        test=("I finally got {thing}.", "{color} looks good on {person}."),
        answers=("{thing}, how nice.", "{color} is a beautiful color.", "That is nice."),
    ),
    Talk(
        skill="news",
        ways=(
            "{person} has a birthday on {weekday}.",
            "{person} is [getting married|learning to drive|starting a new job|having a baby].",
            "I [passed my exam|got a new job|won a prize|finished my book|fixed my bicycle].",
            "{name} and I are friends since [school|last year|we were children].",
        ),
        validation=("You won't believe it, {person} made it.",),
        test=("Great news about {person}.", "Everybody is talking about {name}."),
        answers=(
            "That is good news about {person}.",
            "How nice for {person}.",
            "Please say hello to {name} from me.",
            "Congratulations, I am happy for you.",
        ),
    ),
    Talk(
        skill="checking",
        ways=(
            "[Are you there|Can you hear me|Are you listening|Do you hear me|Hello, is this on]?",
            "[Testing|This is a test], one, two, three.",
            "[Hello|Hey|Okay], [are you there|can you hear me|are you listening to me]?",
        ),
        validation=("[Is anybody there|Is this thing working]?",),
        test=("[Do you still follow me|Am I loud enough for you]?", "Check, check, one two."),
        answers=("Yes, I can hear you.", "Yes, I am listening."),
    ),
    Talk(
        skill="stop",
        ways=(
            "[Stop|Please stop|Be quiet|Please be quiet|Stop talking|Enough|That's enough].",
            "[Cancel that|Never mind|Forget it|Leave it|No, stop|Okay, stop].",
        ),
        validation=("[I don't need it anymore|Let's drop it].",),
        test=("[You can stop there|Not now|Hush].",),
        answers=("Okay, I will stop.", "All right."),
    ),
    Talk(
        skill="agreeing",
        ways=(
            "[Yes|Yes, please|Sure|Okay|Of course|That's right|Exactly|Sounds good|Go ahead].",
            "[Great|Perfect|Wonderful|I understand|I see|Good idea|All right then].",
        ),
        validation=("[Absolutely|I think so too].",),
        test=("[You are right about that|Definitely|Why not].",),
        answers=("Good, what would you like to do next?",),
    ),
    Talk(
        skill="disagreeing",
        ways=(
            "[No|No, thank you|No thanks|Not really|I don't think so|That's wrong|That is not it].",
            "[That's not what I asked|That's not what I meant|You got that wrong|No, not that].",
        ),
        validation=("[You misunderstood me|I doubt it].",),
        test=("[Certainly not|That can't be right].",),
        answers=("I am sorry, please tell me again.",),
    ),
    Talk(
        skill="praise",
        ways=(
            "[You are|You're] [funny|smart|nice|so helpful|great|amazing|my favorite assistant].",
            "[I like|I love] [your voice|talking to you|your answers|how you talk].",
        ),
        validation=("[Talking to you makes me smile|You always know what to say].",),
        test=("[What would I do without you|You made my day].",),
        answers=("Thank you, that is very kind of you.",),
    ),
    Talk(
        skill="complaint",
        ways=(
            "[You are|You're] [too slow|wrong|boring|not helpful|useless|hard to understand].",
            "[I don't like|I don't understand] [your voice|your answers|your answer|you].",
        ),
        validation=("[This isn't working at all|You never understand me].",),
        test=("[I expected more of you|My old radio was more fun than you].",),
        answers=("I am sorry, I will try to do better.",),
    ),
)
