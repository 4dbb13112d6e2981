"""The vocabulary of the miniature stories: people, things, places and times, without any language.

A `Phrase` is one participant of a sentence. It names its lemma by an English key, and the table
file of each language translates that key. Nothing here depends on a language, so the same story can
be written in all of them.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Phrase:
    """One participant: `kind` names the table in which a language looks up `noun`.

    >>> Phrase("thing", "ball", adjective="red").noun
    'ball'
    """

    kind: str
    noun: str
    adjective: str = ""
    number: int = 1
    owner: str = ""  # for relatives: "m" or "f", the sex of the person whose relative this is


@dataclass(frozen=True)
class Agreement:
    """The features with which a verb or a predicate agrees."""

    person: int = 3
    gender: str = "m"
    plural: bool = False
    # Relatives of an older generation have the kind "kin": Hindi and Tamil use respectful forms.
    kind: str = "person"


# A story draws entries by their index, so adding, removing or moving an entry below changes the
# text of every story, and with it the key of every corpus of them.
SEX = {
    "Sara": "f", "Maryam": "f", "Leyla": "f", "Nora": "f", "Dina": "f", "Salma": "f",
    "Mina": "f", "Amina": "f", "Ali": "m", "Omar": "m", "Adam": "m", "Karim": "m", "Samir": "m",
    "Hasan": "m", "Nabil": "m", "Jamal": "m", "mother": "f", "father": "m", "grandmother": "f",
    "grandfather": "m",
}  # fmt: skip
# Names of people start with a capital letter, names of relatives do not.
PEOPLE = tuple(name for name in SEX if name[0].isupper())
RELATIVES = ("mother", "father", "grandmother", "grandfather")
THINGS = (
    "ball", "book", "pen", "bag", "key", "hat", "ring", "umbrella", "flute", "doll", "watch",
    "basket", "drum", "bell", "notebook", "mirror", "picture", "lamp", "box", "shirt",
)  # fmt: skip
CONTAINERS = ("bag", "basket", "box")
BREAKABLE_THINGS = ("cup", "plate", "jar", "mirror", "lamp", "watch")
ADJECTIVES = (
    "red", "blue", "green", "white", "black", "yellow", "brown", "big", "small", "new", "old",
    "beautiful",
)  # fmt: skip
ANIMAL_ADJECTIVES = ("white", "black", "brown", "big", "small", "beautiful")
FOODS = (
    "bread", "apple", "mango", "banana", "orange", "egg", "date", "grape", "cheese", "honey",
    "potato", "tomato",
)  # fmt: skip
ANIMAL_FOODS = {
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
DESTINATIONS = (
    "park", "garden", "market", "school", "river", "lake", "forest", "village", "library",
    "field", "station", "hill", "beach",
)  # fmt: skip
PLAY_PLACES = ("house", "room", "kitchen", "garden")
PLAYGROUNDS = ("park", "garden", "field", "beach", "school")
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
PARTS_OF_DAY = ("day", "morning", "evening")
UNNAMED_TIMES = ("one-day", "one-morning", "one-evening")
FINDING_SPOTS = (
    "under-tree", "behind-tree", "under-bench", "behind-wall", "near-stone", "near-door",
    "in-grass", "by-road",
)  # fmt: skip
BUILDINGS = ("library", "school", "station")
BUILDING_SPOTS = ("under-bench", "behind-wall", "near-door")
HOMES = ("small-village", "big-city", "small-house", "old-house")
VEHICLES = ("bus", "train", "car")
DURATIONS = ("week", "month", "ten-days", "two-weeks")
