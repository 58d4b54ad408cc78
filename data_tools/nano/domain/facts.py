"""What the nano knows: plain tables of keys and answers, without any phrasing.

Every word is in the US English dictionary of pocketsphinx, which judges the spoken answers.
Keys that sound alike were left out on purpose: Austria beside Australia, loose beside lose.
"""

NUMBERS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen "
    "fifteen sixteen seventeen eighteen nineteen twenty"
).split()  # NUMBERS[n] is the word for n

DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()

MONTHS = (
    "January February March April May June July August September October November December"
).split()

DAYS_IN_MONTH = (
    "thirty one",
    "twenty eight",
    *(  # of a common year
        "thirty one" if month in (3, 5, 7, 8, 10, 12) else "thirty" for month in range(3, 13)
    ),
)

# country -> capital
CAPITALS = {
    "Argentina": "Buenos Aires", "Australia": "Canberra", "Belgium": "Brussels",
    "Brazil": "Brasilia", "Bulgaria": "Sofia", "Canada": "Ottawa", "Chile": "Santiago",
    "China": "Beijing", "Colombia": "Bogota", "Cuba": "Havana", "Denmark": "Copenhagen",
    "Egypt": "Cairo", "England": "London", "Ethiopia": "Addis Ababa", "Finland": "Helsinki",
    "France": "Paris", "Germany": "Berlin", "Greece": "Athens", "Hungary": "Budapest",
    "India": "New Delhi", "Indonesia": "Jakarta", "Iraq": "Baghdad", "Ireland": "Dublin",
    "Israel": "Jerusalem", "Italy": "Rome", "Jamaica": "Kingston", "Japan": "Tokyo",
    "Kenya": "Nairobi", "Lebanon": "Beirut", "Mexico": "Mexico City", "Norway": "Oslo",
    "Pakistan": "Islamabad", "Peru": "Lima", "Poland": "Warsaw", "Portugal": "Lisbon",
    "Romania": "Bucharest", "Russia": "Moscow", "Spain": "Madrid", "Sweden": "Stockholm",
    "Switzerland": "Bern", "Thailand": "Bangkok", "Turkey": "Ankara", "Ukraine": "Kiev",
    "Vietnam": "Hanoi",
}  # fmt: skip

_COUNTRIES_OF = {
    "Africa": "Egypt Kenya Nigeria Morocco",
    "Asia": "China India Indonesia Iraq Israel Japan Thailand Vietnam",
    "Europe": "Finland France Germany Greece Italy Norway Poland Portugal Spain",
    "North America": "Canada Cuba Jamaica Mexico",
    "South America": "Argentina Brazil Chile Peru",
}
# country -> continent
CONTINENTS = {
    country: place for place, countries in _COUNTRIES_OF.items() for country in countries.split()
}

# one direction each: asking for the opposite of the value would be a fact of its own
OPPOSITES = {
    "hot": "cold", "big": "small", "fast": "slow", "up": "down", "left": "right", "happy": "sad",
    "day": "night", "black": "white", "good": "bad", "old": "young", "open": "closed",
    "full": "empty", "hard": "soft", "long": "short", "light": "dark", "loud": "quiet",
    "rich": "poor", "strong": "weak", "early": "late", "inside": "outside", "above": "below",
    "always": "never", "clean": "dirty", "dry": "wet", "easy": "difficult", "first": "last",
    "front": "back", "heavy": "light", "high": "low", "love": "hate",
    "near": "far", "push": "pull", "question": "answer", "rough": "smooth", "safe": "dangerous",
    "start": "finish", "sunny": "cloudy", "sweet": "sour", "thick": "thin",
    "true": "false", "under": "over", "war": "peace", "wide": "narrow", "win": "lose",
    "winter": "summer", "yes": "no",
}  # fmt: skip

# animal, with its article -> what it does
ANIMAL_SOUNDS = {
    "a cat": "purrs", "a dog": "barks", "a cow": "moos", "a duck": "quacks", "a lion": "roars",
    "a snake": "hisses", "a wolf": "howls", "an owl": "hoots", "a mouse": "squeaks",
    "a bee": "buzzes", "a pig": "grunts", "a bird": "sings", "a rooster": "crows",
    "an elephant": "trumpets", "a turkey": "gobbles", "a cricket": "chirps",
    "a bear": "growls",
}  # fmt: skip

ANIMAL_BABIES = {
    "cat": "kitten", "dog": "puppy", "cow": "calf", "sheep": "lamb", "horse": "foal",
    "pig": "piglet", "duck": "duckling", "kangaroo": "joey", "lion": "cub", "goat": "kid",
    "chicken": "chick", "frog": "tadpole", "deer": "fawn",
}  # fmt: skip

ANIMAL_LEGS = {
    "dog": "four", "bird": "two", "spider": "eight", "ant": "six", "snake": "no", "fish": "no",
    "horse": "four", "bee": "six", "cow": "four", "chicken": "two", "crab": "ten",
    "butterfly": "six",
}  # fmt: skip

# thing, as the subject of "is" -> color
COLORS = {
    "the sky": "blue", "the grass": "green", "snow": "white", "a banana": "yellow",
    "a tomato": "red", "a carrot": "orange", "coal": "black", "chocolate": "brown",
    "milk": "white", "the sun": "yellow", "a lemon": "yellow", "a cherry": "red",
    "an orange": "orange", "a flamingo": "pink", "an elephant": "gray", "a frog": "green",
    "blood": "red", "the ocean": "blue", "a pumpkin": "orange", "a cucumber": "green",
    "a strawberry": "red", "a polar bear": "white", "butter": "yellow", "coffee": "brown",
    "a leaf": "green", "a pig": "pink", "a fire truck": "red", "a swan": "white",
    "lettuce": "green", "an eggplant": "purple", "sugar": "white", "broccoli": "green",
    "a raven": "black", "corn": "yellow", "a school bus": "yellow", "an emerald": "green",
}  # fmt: skip

SPELLED = (
    "cat dog sun moon fish bird tree house milk bread green water apple book king snow door "
    "table chair school mother friend yellow happy music horse window garden ship star"
).split()

# (parts, whole) -> how many
UNITS = {
    ("minutes", "an hour"): "sixty", ("seconds", "a minute"): "sixty",
    ("hours", "a day"): "twenty four", ("days", "a week"): "seven",
    ("months", "a year"): "twelve", ("weeks", "a year"): "fifty two",
    ("years", "a century"): "one hundred", ("years", "a decade"): "ten",
    ("inches", "a foot"): "twelve", ("feet", "a yard"): "three",
    ("meters", "a kilometer"): "one thousand", ("grams", "a kilogram"): "one thousand",
    ("cents", "a dollar"): "one hundred", ("eggs", "a dozen"): "twelve",
    ("players", "a soccer team"): "eleven", ("letters", "the alphabet"): "twenty six",
}  # fmt: skip

SIDES = {
    "triangle": "three", "square": "four", "rectangle": "four", "pentagon": "five",
    "hexagon": "six", "octagon": "eight", "circle": "no", "diamond": "four",
}  # fmt: skip

PLURALS = {
    "mouse": "mice", "foot": "feet", "tooth": "teeth", "child": "children", "man": "men",
    "woman": "women", "goose": "geese", "sheep": "sheep", "leaf": "leaves", "knife": "knives",
    "wolf": "wolves", "person": "people", "city": "cities", "box": "boxes",
}  # fmt: skip

# thing, as the subject of "is" -> what it is
DEFINITIONS = {
    "a hammer": "a tool for driving nails", "rain": "water that falls from the clouds",
    "snow": "frozen water that falls in winter", "a chair": "something to sit on",
    "a bed": "something to sleep on", "a clock": "a machine that shows the time",
    "a bicycle": "a vehicle with two wheels", "a car": "a vehicle with four wheels",
    "an umbrella": "a cover that keeps you dry in the rain",
    "a kitchen": "a room for cooking food",
    "a library": "a place where you can borrow books",
    "a hospital": "a place where sick people get help", "a school": "a place where children learn",
    "a doctor": "a person who helps sick people", "a teacher": "a person who helps others learn",
    "a farmer": "a person who grows food", "a pilot": "a person who flies a plane",
    "a baker": "a person who makes bread", "a dentist": "a doctor for your teeth",
    "a river": "water that flows to the sea", "an island": "land with water all around it",
    "a mountain": "a very high hill", "a desert": "a dry place with little rain",
    "a forest": "a place with many trees", "a volcano": "a mountain that throws out hot rock",
    "the moon": "a ball of rock that circles the earth", "the sun": "the star that warms the earth",
    "a planet": "a large round world that circles a star", "ice": "frozen water",
    "cheese": "a food made from milk", "honey": "a sweet food made by bees",
    "a guitar": "a musical instrument with strings",
    "a piano": "a musical instrument with black and white keys",
    "a drum": "a musical instrument that you hit", "a camera": "a machine that takes pictures",
    "a telescope": "a tool for looking at the stars",
    "a computer": "a machine that follows programs",
    "a refrigerator": "a machine that keeps food cold",
    "a pencil": "a tool for writing and drawing",
    "a dictionary": "a book that explains words", "thunder": "the sound of lightning",
}  # fmt: skip

# topic -> the one joke about it
JOKES = {
    "cats": "Cats love the color purple, because they purr.",
    "cows": "Where do cows go on Friday night? To the moo movies.",
    "dogs": "Why do dogs dance badly? They have two left feet.",
    "fish": "Why are fish so smart? They always live in schools.",
    "chickens": "Why did the chicken cross the road? To reach the other side.",
    "books": "Why was the math book sad? It had too many problems.",
    "clocks": "Why did the boy throw the clock? To see time fly.",
    "bears": "What is a bear without teeth? It is a gummy bear.",
    "ghosts": "Why are ghosts bad liars? You can see right through them.",
    "trees": "How do trees use computers? They simply log in.",
    "computers": "Why was the computer cold? It left its windows open.",
    "bananas": "Why did the banana see a doctor? It was not peeling well.",
    "ducks": "What time do ducks wake up? At the quack of dawn.",
}

# answer -> two ways to say what it answers
GREETINGS = {
    "Hello, how can I help you?": ("hello", "hello there"),
    "Good morning, I hope you slept well.": ("good morning", "a very good morning"),
    "Good afternoon, what would you like to know?": ("good afternoon", "a very good afternoon"),
    "Good evening, it is nice to hear you.": ("good evening", "a very good evening"),
    "Good night, sleep well.": ("good night", "sleep well"),
    "You are welcome.": ("thank you", "thanks a lot"),
    "Goodbye, it was nice talking to you.": ("goodbye", "see you later"),
    "No problem, these things happen.": ("I am sorry", "please forgive me"),
    "Nice to meet you too.": ("nice to meet you", "it is a pleasure to meet you"),
    "Thank you, that is kind of you.": ("you are great", "you did a wonderful job"),
    "Happy birthday to you too.": ("happy birthday", "I wish you a happy birthday"),
    "I am sorry to hear that you are tired.": ("I am tired", "I feel so tired"),
}

IDENTITY = {
    "I am Nano, a small voice assistant.": ("who are you", "what are you"),
    "My name is Nano.": ("what is your name", "what should I call you"),
    "I can answer simple questions and tell jokes.": (
        "what can you do",
        "what kind of things can you do",
    ),
    "I was made by people who love open research.": ("who made you", "who built you"),
    "No, I am a computer program.": ("are you a human", "are you a real person"),
    "I am fine, thank you.": ("how are you", "how are you doing today"),
    "I live inside this computer.": ("where do you live", "where is your home"),
    "I am too young to count my birthdays.": ("how old are you", "what is your age"),
    "I only speak English.": ("what language do you speak", "which languages do you know"),
    "I hear your voice and answer with mine.": ("how do you work", "how do you understand me"),
    "I never eat, but I enjoy good questions.": ("what do you like to eat", "do you eat food"),
    "I never sleep, so ask me anything.": ("do you sleep", "do you ever go to sleep"),
}
