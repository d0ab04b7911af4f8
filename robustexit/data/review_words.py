"""The vocabulary of the generated reviews: things reviewed, what is said of them, neutral surroundings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Group:
    """Things of one kind within a domain, with the adjectives that can be said of every one of them.

    Attributes:
        nouns: Singular noun phrases without an article.
        good: Favourable adjectives.
        bad: Unfavourable adjectives.
    """

    nouns: tuple[str, ...]
    good: tuple[str, ...]
    bad: tuple[str, ...]

    def adjectives(self, label: int) -> tuple[str, ...]:
        """Return the favourable adjectives for label 1, the unfavourable ones for label 0."""
        return self.good if label else self.bad


@dataclass(frozen=True)
class Domain:
    """One kind of review.

    Attributes:
        groups: What can be judged.
        visits: Neutral statements of how the reviewer came to it, without a full stop.
        elsewhere: Where another thing of the same kind was met, for comparisons.
    """

    groups: tuple[Group, ...]
    visits: tuple[str, ...]
    elsewhere: tuple[str, ...]


def _list(text: str) -> tuple[str, ...]:
    return tuple(item.strip() for item in text.split(",") if item.strip())


_PEOPLE_GOOD: Final = _list(
    "attentive, friendly, courteous, polite, cheerful, welcoming, helpful, gracious, patient, knowledgeable, "
    "thoughtful, considerate, professional, warm, obliging"
)
_PEOPLE_BAD: Final = _list(
    "rude, careless, surly, dismissive, impatient, arrogant, clueless, grumpy, unhelpful, hostile, sullen, "
    "incompetent, condescending, inattentive, disrespectful"
)

FILM: Final = Domain(
    groups=(
        Group(
            _list(
                "plot, script, story, dialogue, ending, opening, premise, final act, romance, mystery, "
                "screenplay, "
                "twist, subplot, finale, comedy, middle section, love story, court scene"
            ),
            _list(
                "gripping, witty, clever, moving, inventive, absorbing, touching, thrilling, sharp, "
                "original, tense, "
                "heartfelt, captivating, suspenseful, poignant, engaging, profound, hilarious"
            ),
            _list(
                "dull, predictable, tedious, clumsy, shallow, silly, hollow, muddled, lifeless, contrived, "
                "forgettable, incoherent, tiresome, stale, laughable, pointless, boring, pretentious"
            ),
        ),
        Group(
            _list(
                "lead actor, lead actress, cast, director, villain, narrator, supporting cast, young star, "
                "comedian, "
                "hero, heroine, detective, love interest, child actor"
            ),
            _list(
                "convincing, charismatic, magnetic, superb, brilliant, charming, likeable, compelling, "
                "fearless, "
                "radiant, memorable, mesmerizing"
            ),
            _list(
                "wooden, unconvincing, irritating, miscast, bland, stiff, annoying, hopeless, amateurish, "
                "insufferable, unwatchable, obnoxious"
            ),
        ),
        Group(
            _list(
                "cinematography, soundtrack, editing, camera work, lighting, score, costume design, "
                "animation, "
                "sound design, stunt work, set design, choreography"
            ),
            _list(
                "gorgeous, stunning, elegant, dazzling, beautiful, impressive, masterful, polished, vivid, "
                "atmospheric, exquisite, breathtaking"
            ),
            _list(
                "ugly, sloppy, cheap, choppy, grating, shoddy, dreary, murky, distracting, lazy, unimaginative, hideous"
            ),
        ),
    ),
    visits=_list(
        "we saw it at the old cinema near the station, I watched it on a train to the coast, we streamed it "
        "on a "
        "Sunday evening, I saw it at a festival in October, we watched it at home after dinner, my cousin "
        "picked it "
        "for our weekly film night, it runs for about two hours, the story is set in a harbour town in the "
        "sixties, "
        "it was adapted from a novel by a Danish author, our seats were in the third row"
    ),
    elsewhere=_list("in the first film, in the earlier version, in last year's sequel, in the television series"),
)

RESTAURANT: Final = Domain(
    groups=(
        Group(
            _list(
                "soup, pasta, salmon, steak, curry, salad, bread, dessert, risotto, seafood, pie, lamb, "
                "chicken, "
                "cheesecake, burger, pizza, sauce, tart, stew, omelette"
            ),
            _list(
                "delicious, tasty, fresh, flavourful, appetizing, mouthwatering, wholesome, exquisite, "
                "satisfying, "
                "divine, scrumptious, heavenly"
            ),
            _list(
                "bland, stale, greasy, tasteless, soggy, inedible, salty, rancid, overcooked, disgusting, "
                "burnt, "
                "revolting"
            ),
        ),
        Group(
            _list(
                "waiter, waitress, hostess, chef, manager, bartender, owner, kitchen team, sommelier, "
                "cashier, "
                "delivery driver, head cook"
            ),
            _PEOPLE_GOOD,
            _PEOPLE_BAD,
        ),
        Group(
            _list("terrace, dining room, bar, garden, patio, lounge, balcony, courtyard, corner booth, upstairs room"),
            _list(
                "cozy, inviting, lovely, relaxing, elegant, charming, pleasant, romantic, delightful, "
                "stylish, "
                "peaceful, enchanting"
            ),
            _list(
                "noisy, cramped, gloomy, shabby, depressing, tacky, unpleasant, dingy, chaotic, stuffy, grubby, drab"
            ),
        ),
    ),
    visits=_list(
        "we stopped there on the way to the theatre, we booked a table for six, I had lunch there with two "
        "colleagues, we walked over from the market, my aunt lives around the corner from it, the menu "
        "changes every "
        "Thursday, we sat near the window, we ordered three courses and a bottle of water, it opened in the "
        "spring "
        "beside the library, we arrived a little before eight"
    ),
    elsewhere=_list("at the place next door, at the airport, at the café across the street, at our usual diner"),
)

HOTEL: Final = Domain(
    groups=(
        Group(
            _list(
                "room, suite, bathroom, lobby, apartment, cabin, bedroom, guest house, hallway, family room, "
                "loft, "
                "reading room"
            ),
            _list(
                "spotless, spacious, comfortable, cozy, bright, luxurious, tidy, airy, immaculate, tranquil, "
                "pristine, homely"
            ),
            _list("filthy, cramped, dirty, damp, noisy, smelly, moldy, shabby, freezing, grimy, squalid, musty"),
        ),
        Group(
            _list(
                "receptionist, porter, concierge, housekeeper, night manager, desk clerk, doorman, shuttle "
                "driver, "
                "tour guide, lifeguard, caretaker, cleaning crew"
            ),
            _PEOPLE_GOOD,
            _PEOPLE_BAD,
        ),
        Group(
            _list(
                "pool, gym, spa, breakfast buffet, rooftop bar, garage, sauna, playground, private beach, "
                "tennis "
                "court, business center, golf course"
            ),
            _list(
                "fantastic, inviting, excellent, superb, lovely, wonderful, pleasant, terrific, marvellous, "
                "impressive, splendid, outstanding"
            ),
            _list(
                "neglected, dismal, awful, dreadful, disappointing, overcrowded, terrible, miserable, "
                "outdated, "
                "unusable, abysmal, horrendous"
            ),
        ),
    ),
    visits=_list(
        "we stayed for three nights in June, I was there for a conference, we drove up from the south with "
        "our "
        "dog, our floor had eleven other doors, it stands two streets from the cathedral, we checked in "
        "shortly "
        "after noon, the booking covered two adults and a baby, I travelled with my grandmother, it belongs "
        "to a "
        "chain with forty houses, the bus to the harbour leaves from the front gate"
    ),
    elsewhere=_list("at our last hotel, at the resort up the road, at the hostel in town, on our previous trip"),
)

PRODUCT: Final = Domain(
    groups=(
        Group(
            _list(
                "kettle, vacuum cleaner, phone, laptop, camera, blender, printer, speaker, keyboard, watch, "
                "tent, "
                "backpack, lamp, drill, toaster, tablet, stroller, office chair, coffee maker, bicycle pump"
            ),
            _list(
                "reliable, sturdy, durable, excellent, efficient, practical, dependable, superb, handy, "
                "fantastic, "
                "impressive, ingenious"
            ),
            _list(
                "flimsy, unreliable, useless, defective, faulty, fragile, worthless, awful, impractical, "
                "dreadful, "
                "shoddy, pathetic"
            ),
        ),
        Group(
            _list(
                "battery, handle, screen, charger, lid, cable, strap, remote control, hinge, switch, motor, "
                "zipper, "
                "mobile app, carrying case"
            ),
            _list("solid, robust, excellent, flawless, clever, great, elegant, perfect, superb, splendid"),
            _list("weak, broken, cheap, poor, inferior, terrible, atrocious, horrible, lousy, ridiculous"),
        ),
        Group(
            _list(
                "support team, courier, seller, technician, repair shop, help desk, sales clerk, store "
                "manager, "
                "customer adviser, delivery man"
            ),
            _PEOPLE_GOOD,
            _PEOPLE_BAD,
        ),
    ),
    visits=_list(
        "I bought it in April for my mother, it came in a brown box with two stickers, I use it in the "
        "workshop "
        "twice a week, my flatmate ordered the blue one, we needed something for the holiday cottage, it "
        "weighs "
        "about as much as a dictionary, the parcel arrived on a Monday, I have owned it since last autumn, "
        "we set "
        "it up in the kitchen, the order included a spare filter"
    ),
    elsewhere=_list("from the other brand, from the discount store, I owned before, my neighbour has"),
)

DOMAINS: Final = (FILM, RESTAURANT, HOTEL, PRODUCT)

VERBS: Final = {
    1: (
        ("won me over", "win me over"),
        ("exceeded my expectations", "exceed my expectations"),
        ("impressed all of us", "impress any of us"),
        ("delighted the whole family", "delight the family"),
        ("made my week", "make my week"),
        ("earned our praise", "earn our praise"),
        ("deserved every compliment", "deserve a compliment"),
        ("put a smile on my face", "put a smile on my face"),
        ("lived up to the promises", "live up to the promises"),
        ("was worth every penny", "seem worth a penny"),
    ),
    0: (
        ("let us down", "let us down"),
        ("disappointed all of us", "disappoint any of us"),
        ("annoyed everybody", "annoy anybody"),
        ("ruined the experience", "ruin anything"),
        ("wasted our time", "waste our time"),
        ("got on my nerves", "get on my nerves"),
        ("fell short of the promises", "fall short of the promises"),
        ("drove me up the wall", "drive me up the wall"),
        ("left a sour taste", "leave a sour taste"),
        ("deserved every complaint", "deserve a complaint"),
    ),
}
"""Label -> (past tense, base form after "did not"): what a thing did to the reviewer."""

INTENSIFIERS: Final = _list(
    "really, truly, remarkably, very, extremely, genuinely, astonishingly, incredibly, exceptionally, "
    "decidedly, "
    "undeniably, surprisingly"
)

SPEAKERS: Final = _list("I, we, all of us, my wife and I, my husband and I, the children, my friends and I")

OTHERS: Final = _list(
    "my neighbour, a colleague, my brother, the guidebook, an old friend, the man beside us, a blogger, the "
    "local "
    "newspaper, my boss, one reviewer, our landlord, her uncle"
)

OCCASIONS: Final = {
    1: (
        _list("glorious, wonderful, lovely, joyful, pleasant, perfect, delightful, fantastic"),
        _list(
            "week at the office, flight, morning, train ride, concert, walk, birthday, football match, exam, meeting"
        ),
    ),
    0: (
        _list("miserable, dreadful, awful, stressful, horrible, terrible, wretched, frustrating"),
        _list(
            "week at the office, flight, morning, train ride, concert, commute, phone call, football match, "
            "exam, meeting"
        ),
    ),
}
"""Label -> (adjectives, nouns) of something that has nothing to do with the thing reviewed."""

TAILS: Final = _list(
    "from start to finish, on both occasions, this time, on a Tuesday in March, during the holidays, "
    "all things considered, in the end, this summer, when it came down to it, the second time too"
)
