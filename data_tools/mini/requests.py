"""Commands and requests: a home, timers, orders, the way.

The mini can move nothing: it says what it understood, and that it can't do it.
"""

from data_tools.talk import Talk

_ASK = "[|please |can you |could you |could you please |I want you to |hey, ]"

REQUESTS = (
    Talk(
        skill="home",
        ways=(
            f"{_ASK}turn {{state}} the {{device}} in the {{room}}.",
            f"{_ASK}turn the {{room}} {{device}} {{state}}.",
            f"{_ASK}switch the {{device}} in the {{room}} {{state}}.",
            "[Turn|Switch] {state} the {room} {device}[, please|].",
            "[The|Put the] {device} in the {room} {state}, please.",
        ),
        validation=("I'd like the {device} {state} in the {room}.",),
        test=(
            "The {room} needs the {device} {state}.",
            "See to it, the {device} in the {room} goes {state}.",
        ),
        answers=(
            "I can not turn the {device} in the {room} {state}.",
            "You want the {device} in the {room} {state}, but I can not do that.",
        ),
    ),
    Talk(
        skill="climate",
        ways=(
            f"{_ASK}set the temperature to {{degrees}} degrees.",
            f"{_ASK}set the temperature in the {{room}} to {{degrees}}.",
            f"{_ASK}make the {{room}} [warmer|cooler|brighter|darker].",
            f"{_ASK}dim the lights in the {{room}}.",
        ),
        validation=("The {room} should be at {degrees} degrees.",),
        test=("I want {degrees} degrees in the {room}.", "Give me {degrees} in here."),
        answers=(
            "I can not set {degrees} degrees from here.",
            "I can not change the {room} from here.",
        ),
    ),
    Talk(
        skill="appliance",
        ways=(
            f"{_ASK}start the {{appliance}}[| at {{time}}| in {{minutes}}].",
            f"{_ASK}stop the {{appliance}}.",
            "Is the {appliance} [still on|running|done|off]?",
            f"{_ASK}turn {{state}} the {{appliance}}.",
        ),
        validation=("The {appliance} can start now.",),
        test=("It's time for the {appliance}.", "Let the {appliance} run for {minutes}."),
        answers=("I have no way to reach the {appliance}.",),
    ),
    Talk(
        skill="timer",
        ways=(
            f"{_ASK}set a timer for {{minutes}}.",
            f"{_ASK}start a timer for {{minutes}}.",
            "[Timer for|A timer for|Set the timer to] {minutes}[, please|].",
            "Tell me when {minutes} are over.",
        ),
        validation=("In {minutes} I need a beep.",),
        test=("My eggs need {minutes}, watch the time.", "Count down {minutes} for me."),
        answers=(
            "You said {minutes}, but I have no timer.",
            "I can not set a timer for {minutes}.",
        ),
    ),
    Talk(
        skill="alarm",
        ways=(
            f"{_ASK}wake me up at {{time}}.",
            f"{_ASK}set an alarm for {{time}}[| on {{weekday}}| in the {{part}}].",
            "[Alarm at|An alarm for] {time}[, please|].",
            "I have to get up at {time}.",
        ),
        validation=("Don't let me sleep past {time}.",),
        test=("My day starts at {time}, so ring then.", "Make some noise at {time}."),
        answers=("You said {time}, but I have no alarm.", "I can not wake you at {time}."),
    ),
    Talk(
        skill="reminder",
        ways=(
            f"{_ASK}remind me to {{chore}}[| at {{time}}| on {{weekday}}| in {{minutes}}].",
            "[Don't let me forget|I must not forget] to {chore}.",
            "Add to my list, {chore}.",
            "Make a note, {chore}[| on {weekday}].",
        ),
        validation=("I always forget to {chore}.",),
        test=("Keep in mind that I must {chore}.", "Later today I want to {chore}."),
        answers=(
            "I can not remind you to {chore}.",
            "You want to {chore}, but I keep no list.",
        ),
    ),
    Talk(
        skill="calendar",
        ways=(
            "What do I have to do on {day}?",
            f"{_ASK}make an appointment with {{name}} on {{weekday}} at {{time}}.",
            "Am I free on {day} at {time}?",
            f"{_ASK}move my meeting to {{time}}.",
            f"{_ASK}cancel my meeting with {{name}}.",
        ),
        validation=("When do I meet {name}?",),
        test=("Is there room for {name} on {weekday}?", "Push everything to {time}."),
        answers=(
            "I can not see your calendar for {day}.",
            "I can not see what you do with {name}.",
            "I can not change your calendar to {time}.",
        ),
    ),
    Talk(
        skill="calls",
        ways=(
            f"{_ASK}call {{name}}.",
            f"{_ASK}call {{person}}.",
            f"{_ASK}send a message to {{name}}.",
            f"{_ASK}tell {{person}} that I am [late|at home|on my way|sorry|fine].",
            f"{_ASK}read my messages from {{name}}.",
        ),
        validation=("I need to talk to {name}.",),
        test=("Get me {name} on the phone.", "Let {person} know that I'm here."),
        answers=("I can not reach {name} for you.", "I can not call {person} from here."),
    ),
    Talk(
        skill="order",
        ways=(
            "[I'd like|I would like|I'll have] {drink}[, please|].",
            "[Can I have|Can I get|Could I get] {drink}[, please|]?",
            "{drink} with {extra}[, please|].",
            "[I'll take|Give me|Let me have] {drink} and some {food}.",
            "[Can I get|I'd like] a {size} [pizza|soup|salad|coffee|lemonade] with {extra} to go.",
            "One {size} [pizza|tea|coffee|salad] with {extra}[, please|, and that's all].",
        ),
        validation=("For me it's {drink}, thanks.",),
        test=("We'll take {drink}, with {extra} on the side.", "My order is {drink}."),
        answers=(
            "I heard {drink}, but I can not serve you.",
            "{drink} with {extra} sounds good, but I have no kitchen.",
            "I would bring you {food}, if I could.",
            "You want it {size}, with {extra}, but I can not serve you.",
        ),
    ),
    Talk(
        skill="music",
        ways=(
            f"{_ASK}play some {{kind}} music[| in the {{room}}].",
            f"{_ASK}play a song by {{name}}.",
            f"{_ASK}turn the music [up|down|off|louder].",
            "I want to hear {kind} music.",
            "[Next song|Skip this song|Pause the music|Volume up|Volume down], please.",
        ),
        validation=("Let's dance to {kind} music.",),
        test=("How about a bit of {kind} music?", "The {room} is too quiet, play something."),
        answers=("I can not play {kind} music.", "I can not play music."),
    ),
    Talk(
        skill="directions",
        ways=(
            "How do I get to {place} [|{travel}]?",
            "Where is {place}?",
            "[Take me|Show me the way|Bring me] to {place}[, please|].",
            "How far is it to {place}?",
            "Which way is {place}?",
            "How long does it take to {city} {travel}?",
        ),
        validation=("I'm looking for {place}.",),
        test=("Am I on the right road to {place}?", "We want to be at {place} soon."),
        answers=(
            "I do not know the way to {place}.",
            "I do not know how long it is to {city}.",
        ),
    ),
    Talk(
        skill="robot",
        ways=(
            "[Go|Move|Walk|Turn] [left|right|forward|back|around].",
            "[Turn left|Turn right|Go straight] at {place}.",
            "[Open|Close|Lock|Unlock] the [door|window|garage|gate] [|in the {room}].",
            "[Bring|Fetch|Get] me {item}.",
            "[Pick up|Put down] the {color} [box|ball|cup|bag|book].",
        ),
        validation=("Bring {item} to the {room}.",),
        test=("[Step aside|Come here|Follow me].", "The {color} box belongs in the {room}."),
        answers=(
            "I can not move, so I can not go to {place}.",
            "I can not bring you {item}.",
            "I can not take the {color} one, I have no hands.",
            "I can not reach the {room}.",
            "I can not move, I am only a voice.",
        ),
    ),
)
