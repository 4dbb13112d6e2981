"""What there is in the miniature world, before any language names it: people, things, places, times.

A `Phrase` is one participant of a sentence. It names its lemma by an English key; each language's table says what that
lemma is called there. Nothing here knows a word of any language, so the same story can be told in all of them.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Phrase:
    """One participant: the `kind` picks the table in which a language looks `noun` up.

    >>> Phrase("thing", "ball", adjective="red").noun
    'ball'
    """

    kind: str
    noun: str
    adjective: str = ""
    number: int = 1
    owner: str = ""  # of a relative: "m" or "f", the sex of the one whose relative this is


@dataclass(frozen=True)
class Agreement:
    """What a verb or a predicate must agree with."""

    person: int = 3
    gender: str = "m"
    plural: bool = False
    kind: str = "person"  # a relative of the older generation is "kin": Hindi and Tamil speak of them with respect


SEX = {
    "Sara": "f",
    "Maryam": "f",
    "Leyla": "f",
    "Nora": "f",
    "Dina": "f",
    "Salma": "f",
    "Mina": "f",
    "Amina": "f",
    "Ali": "m",
    "Omar": "m",
    "Adam": "m",
    "Karim": "m",
    "Samir": "m",
    "Hasan": "m",
    "Nabil": "m",
    "Jamal": "m",
    "mother": "f",
    "father": "m",
    "grandmother": "f",
    "grandfather": "m",
}
PEOPLE = tuple(name for name in SEX if name[0].isupper())
RELATIVES = ("mother", "father", "grandmother", "grandfather")
THINGS = (
    "ball",
    "book",
    "pen",
    "bag",
    "key",
    "hat",
    "ring",
    "umbrella",
    "flute",
    "doll",
    "watch",
    "basket",
    "drum",
    "bell",
    "notebook",
    "mirror",
    "picture",
    "lamp",
    "box",
    "shirt",
)
CONTAINERS = ("bag", "basket", "box")
BREAKABLE = ("cup", "plate", "jar", "mirror", "lamp", "watch")
ADJECTIVES = (
    "red",
    "blue",
    "green",
    "white",
    "black",
    "yellow",
    "brown",
    "big",
    "small",
    "new",
    "old",
    "beautiful",
)
COATS = ("white", "black", "brown", "big", "small", "beautiful")
FOODS = (
    "bread",
    "apple",
    "mango",
    "banana",
    "orange",
    "egg",
    "date",
    "grape",
    "cheese",
    "honey",
    "potato",
    "tomato",
)
MEALS = {
    "cat": ("fish", "meat"),
    "dog": ("bread", "meat"),
    "bird": ("bread", "grape"),
    "rabbit": ("carrot", "apple"),
    "goat": ("grass", "bread"),
    "cow": ("grass", "bread"),
    "horse": ("apple", "carrot"),
    "monkey": ("banana", "mango"),
    "duck": ("bread", "grass"),
    "donkey": ("carrot", "grass"),
}
OUTDOORS = (
    "park",
    "garden",
    "market",
    "school",
    "river",
    "lake",
    "forest",
    "village",
    "library",
    "field",
    "station",
    "hill",
    "beach",
)
INDOORS = ("house", "room", "kitchen", "garden")
SHOPS = ("market", "shop")
SKILLS = ("swim", "read", "write", "sing", "dance", "cook", "draw")
SKILL_PLACES = {
    "swim": ("river", "lake"),
    "read": ("library", "park", "school"),
    "write": ("library", "school", "park"),
    "sing": ("park", "garden", "school", "beach"),
    "dance": ("park", "school", "beach"),
    "cook": ("school", "village"),
    "draw": ("lake", "park", "garden", "hill", "forest", "beach"),
}
DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
PARTS = ("day", "morning", "evening")
SOME_TIMES = ("one-day", "one-morning", "one-evening")
SPOTS = (
    "under-tree",
    "behind-tree",
    "under-bench",
    "behind-wall",
    "near-stone",
    "near-door",
    "in-grass",
    "by-road",
)
ROOFED = ("library", "school", "station")
ROOFED_SPOTS = ("under-bench", "behind-wall", "near-door")
TOWNS = ("small-village", "big-city", "small-house", "old-house")
VEHICLES = ("bus", "train", "car")
WAITS = ("week", "month", "ten-days", "two-weeks")
