"""The words that fill the patterns: what a speaker says -> how the answer says it."""

from data_tools.talk.grammar import slots

ONES = "one two three four five six seven eight nine ten eleven twelve".split()

TABLES: dict[str, dict[str, str]] = {
    "person": {
        f"my {who}": f"your {who}"
        for who in (
            "sister brother mother father son daughter wife husband neighbor teacher boss uncle "
            "aunt cousin grandmother grandfather doctor friend roommate coach"
        ).split()
    },
    "name": slots(
        "Anna, Ben, Carla, David, Emma, Frank, Grace, Henry, Julia, Kevin, Laura, Martin",
        "Nora, Oliver, Paul, Rachel, Simon, Tina, Victor, Wendy, George, Maria, Peter, Susan",
    ),
    "pet": {
        f"my {what}": f"your {what}"
        for what in ("dog", "cat", "horse", "rabbit", "parrot", "hamster", "goldfish", "puppy")
    },
    "item": {
        f"my {what}": f"your {what}"
        for what in (
            "keys", "phone", "glasses", "wallet", "umbrella", "jacket", "laptop", "ticket",
            "passport", "bicycle", "notebook", "watch", "gloves", "charger", "backpack",
        )
    },
    "city": slots(
        "London, Paris, Boston, Chicago, Berlin, Madrid, Rome, Tokyo, Dublin, Sydney, Denver",
        "Seattle, Vienna, Toronto, Houston, Dallas, Miami, Oslo, Lisbon, Prague, Cairo, Mumbai",
    ),
    "food": slots(
        "pizza, pasta, soup, rice, salad, bread, cheese, chicken, fish, pancakes, apples",
        "noodles, potatoes, ice cream, chocolate, tomatoes, eggs, beans, carrots, strawberries",
    ),
    "dish": slots(
        "a tomato soup, an apple pie, a chocolate cake, pancakes, a vegetable curry, roast chicken",
        "a potato salad, fried rice, an omelet, banana bread, a lasagna, mushroom pasta, lentils",
    ),
    "drink": slots(
        "a coffee, a cup of tea, a glass of water, an orange juice, a hot chocolate, a lemonade",
        "an espresso, a large latte, a cappuccino, a green tea, a milk shake, an iced tea",
    ),
    "extra": slots(
        "milk, sugar, ice, lemon, honey, oat milk, whipped cream, two sugars, no sugar, cinnamon"
    ),
    "size": slots("small, medium, large"),
    "room": slots(
        "kitchen, bedroom, bathroom, living room, hallway, garage, office, basement, dining room",
        "garden, nursery, attic, hall, guest room, front porch",
    ),
    "device": slots(
        "lights, lamp, heating, fan, television, radio, music, blinds, air conditioner, speaker",
        "ceiling light, heater",
    ),
    "state": slots("on, off"),
    "appliance": slots(
        "oven, washing machine, dishwasher, coffee machine, alarm, vacuum cleaner, dryer, sprinkler"
    ),
    "degrees": slots(
        "sixteen, seventeen, eighteen, nineteen, twenty, twenty one, twenty two, sixty five",
        "sixty eight, seventy, seventy two",
    ),
    "minutes": slots(
        "one minute, two minutes, three minutes, five minutes, seven minutes, eight minutes",
        "ten minutes, twelve minutes, fifteen minutes, twenty minutes, half an hour, an hour",
        "twenty five minutes, forty minutes, two hours, thirty seconds, ninety seconds",
    ),
    "time": {
        clock: clock
        for hour in ONES
        for clock in (f"{hour} o'clock", f"half past {hour}", f"{hour} fifteen", f"{hour} forty")
    },
    "part": slots("morning, afternoon, evening, night"),
    "day": slots(
        "Monday, Tuesday, Wednesday, Thursday, Friday, Saturday, Sunday, tomorrow, next week"
    ),
    "number": slots(
        "two, three, four, five, six, seven, eight, nine, ten, twelve, fifteen, twenty, thirty"
    ),
    "chore": {
        f"{verb} {what}": f"{verb} {what.replace('my', 'your')}"
        for verb, things in {
            "call": ("my mother", "the dentist", "the bank", "my boss", "the plumber"),
            "buy": ("milk", "bread", "new shoes", "a birthday card", "light bulbs", "stamps"),
            "water": ("the plants", "the tomatoes", "the lawn"),
            "pay": ("the rent", "the phone bill", "the electricity bill"),
            "clean": ("the bathroom", "the fridge", "my room", "the windows"),
            "feed": ("the cat", "the fish", "the chickens"),
            "take out": ("the trash", "the recycling", "the dog"),
            "pick up": ("my son", "the package", "the laundry", "my daughter"),
        }.items()
        for what in things
    },
    "place": slots(
        "the train station, the airport, the library, the hospital, the museum, the city hall",
        "the supermarket, the post office, the beach, the stadium, the hotel, the pharmacy",
        "the bus stop, the university, the park, the swimming pool, the bakery, the bank",
    ),
    "travel": slots("by bus, by train, by car, on foot, by bicycle, by taxi"),
    "hobby": slots(
        "playing chess, painting, swimming, reading, gardening, cooking, dancing, hiking",
        "singing, fishing, running, knitting, cycling, taking photos, skiing, camping, sailing",
        "playing the guitar, playing the piano, watching movies, learning Spanish, baking",
    ),
    "weather": slots(
        "raining, snowing, sunny, very hot, really cold, foggy, windy, cloudy, warm, freezing"
    ),
    "good": slots(
        "happy, great, wonderful, excited, proud, relaxed, cheerful, fantastic, very well",
        "full of energy, calm, lucky, grateful, much better",
    ),
    "bad": slots(
        "sad, lonely, bored, nervous, angry, sick, worried, stressed, upset, disappointed",
        "exhausted, afraid, homesick, confused, a little down, not so well",
    ),
    "color": slots("red, blue, green, yellow, orange, purple, pink, brown, black, white, gray"),
    "thing": slots(
        "a house, a car, a book, a sweater, a bicycle, a table, a hat, a lamp, a sofa, a guitar",
        "a boat, a tent, a camera, a mirror, a chair, a garden, a kitchen, a coat, a desk, a phone",
    ),
    "subject": slots(
        "the ocean, the moon, birds, trees, cooking, music, history, space, computers, sleep",
        "healthy food, exercise, languages, gardening, painting, friendship, books, traveling",
        "football, chess, bread, coffee, cats, dogs, horses, whales, bees, rain, mountains",
        "the human heart, electricity, the internet, trains, bicycles, dreams, winter, school",
    ),
    "task": slots(
        "cook rice, boil an egg, make tea, clean a window, save money, sleep better, learn English",
        "write a letter, plant a tree, train a dog, tie a tie, paint a wall, change a tire",
        "make new friends, stay healthy, learn to swim, bake bread, save water, study for a test",
        "remember names, get up early, speak in public, wash a sweater, make a budget, calm down",
        "fix a flat tire, stop a nosebleed, choose a melon, fold a shirt, use less plastic",
        "improve my time management, prepare for an interview, stay awake, read faster",
    ),
    "occasion": slots(
        "a birthday, a wedding, a picnic, a rainy day, a long train ride, a dinner with friends",
        "a job interview, a hot summer day, a winter evening, a family trip, a first date, a party",
    ),
    "kind": slots("rock, jazz, classical, country, folk, dance, piano, relaxing, happy, old"),
    "weekday": slots("Monday, Tuesday, Wednesday, Thursday, Friday, Saturday, Sunday"),
    "team": slots("the Tigers, the Lions, the Bears, the Eagles, the Giants, our team, the Hawks"),
    "invented": slots(
        "Mister Tobolinka, the city of Varnopol, the Kestor brothers, the island of Brumelia",
        "Queen Ostrava the Ninth, the river Palindor, Doctor Wexlemann, the Zandor Prize",
        "the kingdom of Lethoria, Captain Morvane, the village of Upper Grindle, the Quibbly war",
    ),
    "company": slots("Apple, Google, Tesla, Microsoft, Amazon, Toyota, Samsung, Nike, Boeing"),
}  # fmt: skip
