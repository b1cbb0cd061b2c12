"""Sentiment: is a text positive or negative?

Examples and calibration texts were written for this project; none is from a data set. Format,
number and choice of the examples were decided on the training split of SST-2.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nbllm.engine.prompt import plain
from nbllm.frame.tasks.few_shot import label_parts
from nbllm.frame.tasks.kinds import Examples, LabelTask, read_examples, require_causal

if TYPE_CHECKING:
    from nbllm.models.model import Model

__all__ = ["sentiment"]

_LABELS = ("positive", "negative")

_EXAMPLES = (
    ("A warm, sharply written comedy that earns every one of its laughs.", "positive"),
    ("The plot goes nowhere and takes two hours to get there.", "negative"),
    ("Not without its flaws, but tender, funny and beautifully acted.", "positive"),
    ("Gorgeous to look at, and utterly hollow underneath.", "negative"),
    ("never dull , often surprising , and quietly moving .", "positive"),
    ("a limp retread of better thrillers , with no tension and no point .", "negative"),
    ("I went in expecting little and came out grinning.", "positive"),
    ("If you enjoy watching paint dry, this is the thriller of the year.", "negative"),
    ("It may be small and slow, yet it stays with you for days.", "positive"),
    ("Two fine leads cannot rescue a script this lazy.", "negative"),
    ("one of the most honest portraits of grief in years", "positive"),
    ("so earnest and so clumsy that it is painful to sit through", "negative"),
    ("Far from perfect, the film still wins you over with wit and nerve.", "positive"),
    ("Hardly a joke lands, and the few that do are in the trailer.", "negative"),
    ("An imaginative, tightly paced adventure for young and old.", "positive"),
    ("Loud, confused and far too long.", "negative"),
    ("The noodles were superb and the staff could not have been kinder.", "positive"),
    ("Cold soup, sour waiter, and a bill that made us laugh for the wrong reason.", "negative"),
    ("Best headphones I have owned; the sound is clear and they never pinch.", "positive"),
    ("The app crashes every time I open a file, and support never replied.", "negative"),
    ("you would have to be made of stone not to be charmed", "positive"),
    ("the director mistakes gloom for depth and noise for drama", "negative"),
    ("What sounds like a tired premise turns into something fresh and alive.", "positive"),
    ("What could have been a clever satire ends as a smug, toothless sketch.", "negative"),
)

# Positive and negative in turn, in a few lengths.
_CALIBRATION = (
    "a small gem of a film",
    "a tedious, joyless slog",
    "funny, humane and wonderfully strange",
    "flat, noisy and instantly forgettable",
    "The cast is a delight from start to finish.",
    "I wanted my money and my evening back.",
    "not a wasted minute",
    "lacks any spark of life",
    "Gripping, clever and superbly shot.",
    "Stale jokes and cardboard characters.",
    "an enchanting debut",
    "a muddled, charmless sequel",
    "Great little cafe, lovely bread.",
    "Broke after two days. Avoid.",
    "a bold and moving piece of storytelling",
    "too silly to scare , too dull to amuse",
    (
        "The story is simple, but it is told with such care and good humour that I was sorry "
        "to see it end."
    ),
    (
        "The story is simple, and it is told with so little care or humour that I was "
        "counting the minutes."
    ),
    "a quietly devastating drama whose two young leads give the performances of their careers",
    "a drama so determined to be profound that it forgets to be about anyone at all",
    (
        "It takes a while to find its feet, but once it does this thriller grips you and "
        "does not let go."
    ),
    (
        "It starts with a clever idea, then spends ninety minutes running away from it in "
        "search of cheap shocks."
    ),
    (
        "the animation is glorious , the songs are catchy , and even the villain gets a "
        "laugh or two"
    ),
    (
        "the animation looks cheap , the songs all sound alike , and even small children "
        "will grow restless"
    ),
    (
        "Fans of the book need not worry: this is a faithful, spirited version that never "
        "talks down to its audience."
    ),
    (
        "Fans of the book should stay away: everything that made it special has been cut, "
        "softened or explained to death."
    ),
    (
        "Few documentaries about music manage to be this informative and this much fun at "
        "the same time."
    ),
    (
        "There may be a good documentary in this material, but nobody involved seems to have "
        "looked for it."
    ),
    (
        "The kettle boils quickly, pours without a drip, and still looks new after a year of "
        "daily use."
    ),
    (
        "The kettle leaked from the first day, and the replacement that they sent me leaked "
        "even more."
    ),
    (
        "With hardly any dialogue and almost no budget, the director conjures a world that "
        "feels complete and true."
    ),
    (
        "With a famous cast and a huge budget, the director still cannot conjure a single "
        "scene worth remembering."
    ),
    (
        "I had read that this was only for children, and I am glad I ignored it. The jokes "
        "work on every level, the friendship at its centre feels real, and the chase across "
        "the rooftops is as exciting as anything I have seen this year. My daughter wants to "
        "see it again, and so do I."
    ),
    (
        "I had read that this was fun for all ages, and I wish I had ignored it. The jokes "
        "are about smells and falling over, the friendship at its centre is announced but "
        "never shown, and the chase across the rooftops is a blur. My daughter asked to "
        "leave, and I did not argue."
    ),
    (
        "There is nothing new in the tale of an old thief and one last job, but the way it "
        "is played here makes all the difference. The leading man gives his best performance "
        "in a decade, the dialogue crackles, and the ending is both a surprise and exactly "
        "right. I could have watched another hour without looking at the clock."
    ),
    (
        "There is nothing new in the tale of an old thief and one last job, and nobody here "
        "tries to add anything. The leading man sleepwalks through his scenes, the dialogue "
        "is a string of slogans, and the ending makes no sense at all. I looked at the clock "
        "so often that I could draw it from memory."
    ),
    (
        "We booked a table for my father's birthday and could not have chosen better. They "
        "had put us by the window, the fish was perfectly cooked, and the waiter found a "
        "dessert without nuts for my sister without being asked twice. It is not cheap, but "
        "every plate was worth the price, and we have already booked again for the spring."
    ),
    (
        "We booked a table for my father's birthday and could not have chosen worse. They "
        "had lost our reservation, the fish was dry, and the waiter brought my sister a "
        "dessert with nuts although she had told him twice. It is not cheap either, and not "
        "one plate was worth the price. We will celebrate at home next year."
    ),
    (
        "As a horror film it is patient and intelligent: most of it is footsteps, shadows "
        "and a telephone that rings too late. The young actress carries the whole thing on "
        "her face, and when the terror finally comes it is earned. I slept with the light "
        "on, which is the highest praise that I can give."
    ),
    (
        "As a horror film it is neither frightening nor interesting: most of it is people "
        "walking down corridors and calling each other's names. The young actress does what "
        "she can with lines that nobody could say, and when the monster finally comes the "
        "audience laughed. I slept very well, which is the worst that I can say."
    ),
    (
        "I came to this film almost by accident, because the one I wanted to see was sold "
        "out, and it turned out to be the best evening I have had in a cinema for a long "
        "time. It follows three sisters who inherit a bakery in a town that none of them "
        "likes, and for the first twenty minutes I was afraid that it would be one of those "
        "sugary pictures in which everybody learns a lesson. It is nothing of the kind. The "
        "sisters quarrel the way real sisters do, about nothing and about everything, and "
        "the writing trusts us to understand what is not said. The camera stays close, the "
        "music is used sparingly, and there is a scene with a burnt wedding cake that made "
        "the whole row in front of me cry with laughter. Perhaps the last act is a little "
        "hurried. It hardly matters. I left with the feeling that I had met these people, "
        "and I have been recommending it to everyone since."
    ),
    (
        "I came to this film with high hopes, because I have liked everything else the "
        "director has made, and it turned out to be the longest evening I have had in a "
        "cinema for years. It follows three sisters who inherit a bakery in a town that none "
        "of them likes, and for the first twenty minutes I thought that it might become a "
        "sharp little comedy about family. It is nothing of the kind. The sisters quarrel "
        "because the script needs them to, then make up because it is time for a song, and "
        "no one ever speaks a line that a person might say. The camera never stops moving, "
        "the music tells us what to feel in every scene, and the business with the burnt "
        "wedding cake goes on so long that people around me began to check their phones. The "
        "scenery is pretty, I admit. It is not enough. I left annoyed and hungry, and I "
        "would not recommend it to anyone."
    ),
    (
        "For years I have gone through one cheap backpack after another, so I hesitated "
        "before paying three times as much for this one. After eight months of commuting by "
        "bicycle and two weeks in the mountains I can say that it was money well spent. The "
        "zips run smoothly, the seams show no sign of wear, and the rain cover, which I "
        "expected to be a gimmick, kept my laptop dry in a storm that soaked everything else "
        "I had. The straps are wide and soft, and even with twelve kilos inside I never had "
        "a sore shoulder. I wrote to the maker once to ask about a spare buckle, and it was "
        "in my letterbox three days later, free of charge. If I had to complain I would say "
        "that the side pocket is a bit tight for a large bottle. Apart from that it is the "
        "best bag I have ever owned, and I would buy it again tomorrow without thinking."
    ),
    (
        "For years I have gone through one cheap backpack after another, so I was happy to "
        "pay three times as much for this one and be done with it. After eight weeks I am "
        "back to my old bag. The main zip jammed in the first month and broke in the second, "
        "a seam has opened along the bottom, and the rain cover, which looked so promising "
        "in the pictures, let in enough water to ruin a library book. The straps are stiff, "
        "and with only six kilos inside they cut into my shoulders. I wrote to the maker "
        "twice to ask for a repair; the first message was never answered, and the second "
        "brought a voucher for another bag of the same kind, which is the last thing I want. "
        "The colour is nice, and the side pocket fits a large bottle. That is all the good I "
        "can find to say. It is the worst bag I have owned for the price, and I regret "
        "buying it."
    ),
    (
        "It is rare that a film about science is neither a lecture nor a fairy tale, and "
        "rarer still that it makes the work itself exciting. This one does. We spend two "
        "hours with a small team that is trying to listen to whales, and most of what we see "
        "is waiting: for weather, for batteries, for money, for a sound. Somehow it is "
        "thrilling. The director has a gift for finding the drama in a face bent over a "
        "screen, and the sea has never looked so cold or so lovely. The acting is excellent "
        "down to the smallest part, with a special word for the old captain, who says "
        "perhaps forty words in all and steals every scene. I was worried when a love story "
        "began to show its head, but it is handled with tact and a good deal of humour. By "
        "the time the first call came through the loudspeaker I had tears in my eyes, and I "
        "was not the only one. See it on the largest screen that you can find."
    ),
    (
        "It is hard to make a film about science that is neither a lecture nor a fairy tale, "
        "and this one manages to be both at once. We spend more than two hours with a small "
        "team that is trying to listen to whales, and most of what we see is people "
        "explaining to each other things that they must already know. Nothing is at stake, "
        "nobody seems to want anything, and whenever the story threatens to move a sad piano "
        "begins to play. The director has been praised for his images, but a grey sea stays "
        "a grey sea however long one points a camera at it. The acting is wooden down to the "
        "smallest part, and the old captain, who is meant to be wise, comes across as merely "
        "rude. Then comes a love story that would be rejected by a soap opera. By the time "
        "the first call came through the loudspeaker half of the audience had left, and I "
        "envied them. Wait until it is shown on television, and then read a book."
    ),
    (
        "My mother is eighty-one and had never used a tablet, so I chose this one for its "
        "large letters and simple menus, and I could not be more pleased. She had made her "
        "first video call within ten minutes of opening the box, without any help from me. "
        "The screen is bright enough to read by the window, the sound is loud and clear, and "
        "the battery easily lasts two days. What impressed me most is how calm the whole "
        "thing is: no pop-ups, no offers, no sudden changes after an update. When she did "
        "get stuck once, the telephone support picked up at once, and a patient young man "
        "went through it with her step by step. The camera is nothing special, and I would "
        "not use it for drawing or games. For what we wanted it is ideal. She now sends me a "
        "photograph of her garden every morning, and that alone has been worth every cent."
    ),
    (
        "My mother is eighty-one and had never used a tablet, so I chose this one because it "
        "promises large letters and simple menus, and I could not be more disappointed. It "
        "took me an entire afternoon to set it up, and a week later an update had moved "
        "every button to a different place. The screen is too dim to read by the window, the "
        "sound is thin, and the battery is empty by the evening even if nobody touches it. "
        "Worst of all are the offers: she cannot make a call without first closing two "
        "windows that try to sell her something. When she got stuck I rang the telephone "
        "support, waited for forty minutes, and was told to look at the website. The camera "
        "is decent, and the case feels solid. For what we wanted it is useless. It now lies "
        "in a drawer, she is back to her old telephone, and the shop refuses to take it "
        "back. Please save your money."
    ),
)


def sentiment(
    model: Model, *, instruction: str | None = None, examples: Examples | None = None
) -> LabelTask:
    """The task of telling positive from negative texts.

    Args:
        instruction: what to say above the examples; by default nothing, which does better.
        examples: (text, label) pairs to show instead of the built-in ones.
    """
    require_causal(model, "sentiment")
    shown = _EXAMPLES if examples is None else read_examples(examples, _LABELS)
    return LabelTask(
        verb="sentiment",
        template=plain(
            model.tokenizer, label_parts(instruction, shown, text="Review", answer="Sentiment")
        ),
        labels=_LABELS,
        answers=tuple(f" {label}" for label in _LABELS),
        calibration=_CALIBRATION,
    )
