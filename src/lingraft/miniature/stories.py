"""Abstract stories: which sentence follows which, and who takes part in it.

`plan(index, seed)` is a pure function. A sentence is a key (what happens) with the participants by slot: x is the hero,
y a friend, k a relative of x, w whoever feels something. A story keeps its participants, so that what is lost is what
is found.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from lingraft.miniature import phrases
from lingraft.miniature.phrases import Phrase


@dataclass(frozen=True)
class Sentence:
    """What happens, to whom, and which of a language's wordings says it."""

    key: str
    slots: dict[str, Phrase]
    wording: int


class Draw:
    """The story's participants, drawn once, and the sentences told of them so far."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        hero, friend = rng.sample(phrases.PEOPLE, 2)
        sex = phrases.SEX[hero]
        self.x = Phrase("name", hero)
        self.y = Phrase("name", friend)
        self.k = Phrase("kin", rng.choice(phrases.RELATIVES), owner=sex)
        self.time = self._time()
        self.sentences: list[Sentence] = []

    def _time(self) -> Phrase:
        if self.rng.random() < 0.3:
            return Phrase("phrase", self.rng.choice(phrases.SOME_TIMES))
        return Phrase(
            "day", self.rng.choice(phrases.DAYS), adjective=self.rng.choice(phrases.PARTS)
        )

    def one(self, kind: str, keys: tuple[str, ...], adjectives: tuple[str, ...] = ()) -> Phrase:
        """Draw one participant, with an adjective where a choice of them is given."""
        return Phrase(
            kind, self.rng.choice(keys), adjective=self.rng.choice(adjectives) if adjectives else ""
        )

    def thing(self) -> Phrase:
        """Draw a thing to have, to lose, or to give."""
        return self.one("thing", phrases.THINGS, phrases.ADJECTIVES)

    def tell(self, key: str, **slots: Phrase) -> None:
        """Add one sentence; hero, friend, relative and time are at hand in each."""
        known = {"x": self.x, "y": self.y, "k": self.k, "time": self.time}
        self.sentences.append(Sentence(key, known | slots, self.rng.randrange(6)))

    def perhaps(self, key: str, **slots: Phrase) -> None:
        """Add one sentence in half of the stories."""
        if self.rng.random() < 0.5:
            self.tell(key, **slots)

    def feels(self, who: Phrase, feeling: str) -> None:
        """Say what someone feels."""
        self.tell("felt", w=who, f=Phrase("feeling", feeling))


def plan(index: int, seed: int) -> list[Sentence]:
    """Return the sentences of story `index`, the same in each process and for each language.

    >>> plan(3, seed=0) == plan(3, seed=0)
    True
    """
    draw = Draw(random.Random(f"miniature {seed} {index}"))
    draw.rng.choice(PLOTS)(draw)
    return draw.sentences


def lost_and_found(draw: Draw) -> None:
    """Someone loses a thing, a friend helps, and the same thing is found."""
    thing, place = draw.thing(), draw.one("place", phrases.OUTDOORS)
    draw.tell("had", thing=thing)
    draw.tell(draw.rng.choice(("present", "loved")), thing=thing)
    draw.tell(draw.rng.choice(("went", "went_friend")), place=place)
    draw.tell("lost", thing=thing)
    draw.perhaps("searched", thing=thing)
    if draw.rng.random() < 0.4:
        draw.feels(draw.x, "sad")
    else:
        draw.tell("asked_why")
        draw.tell("answered", thing=thing)
        draw.perhaps("promised", thing=thing)
    spots = phrases.ROOFED_SPOTS if place.noun in phrases.ROOFED else phrases.SPOTS
    draw.tell("found", thing=thing, spot=draw.one("phrase", spots))
    draw.tell("gave_back", thing=thing)
    draw.tell("thanked")


def errand(draw: Draw) -> None:
    """Something is missing at home; the hero buys it and shares on the way back."""
    food, other = (Phrase("food", key) for key in draw.rng.sample(phrases.FOODS, 2))
    shop = draw.one("place", phrases.SHOPS)
    draw.tell("missing", food=food)
    draw.tell("asked_to_buy", food=food, place=shop)
    draw.tell("took", thing=draw.one("thing", phrases.CONTAINERS, phrases.ADJECTIVES), place=shop)
    draw.tell("bought_food", food=food, other=other)
    if draw.rng.random() < 0.6:
        draw.tell("met")
        draw.feels(draw.y, "hungry")
        draw.tell("shared", food=other)
    draw.tell("came_home")
    draw.perhaps("praised")
    draw.tell("ate_together", food=food)


def stray_animal(draw: Draw) -> None:
    """A hungry or frightened animal is fed and finds a home."""
    name = draw.rng.choice(tuple(phrases.MEALS))
    animal = Phrase("animal", name, adjective=draw.rng.choice(phrases.COATS))
    food = draw.one("food", phrases.MEALS[name])
    draw.tell(draw.rng.choice(("went", "went_friend")), place=draw.one("place", phrases.OUTDOORS))
    draw.tell("saw", animal=animal)
    draw.feels(Phrase("animal", name), draw.rng.choice(("hungry", "hungry", "tired", "afraid")))
    draw.tell("fed", animal=animal, food=food)
    draw.tell("animal_ate", animal=animal, food=food)
    draw.tell("took_home", animal=animal)
    if draw.rng.random() < 0.5:
        draw.tell("asked_whose", animal=animal)
        draw.tell("my_friend", animal=animal)
    draw.tell("lives_now", animal=animal)
    draw.perhaps("plays_daily", animal=animal)


def birthday(draw: Draw) -> None:
    """The hero buys a present, and the friend likes it."""
    thing = draw.thing()
    draw.tell("birthday")
    draw.tell("wanted_to_give")
    draw.tell(draw.rng.choice(("went", "went_relative")), place=draw.one("place", phrases.SHOPS))
    draw.tell("bought_for", thing=thing)
    draw.tell("gave", thing=thing)
    draw.tell(draw.rng.choice(("liked", "thanked_friend")), thing=thing)
    draw.perhaps("played", place=draw.one("place", ("park", "garden", "field", "beach", "school")))
    draw.tell("both_happy")


def broken(draw: Draw) -> None:
    """The hero breaks something, tells the truth, is forgiven and makes it good."""
    thing = draw.one("thing", phrases.BREAKABLE)
    draw.tell("was_playing", place=draw.one("place", phrases.INDOORS))
    draw.tell("broke", thing=thing)
    draw.feels(draw.x, draw.rng.choice(("afraid", "sad")))
    draw.tell("asked_who", thing=thing)
    draw.tell("confessed", thing=thing)
    draw.tell("not_angry")
    if draw.rng.random() < 0.7:
        draw.tell("bought_new", thing=Phrase("thing", thing.noun, adjective="new"))
        draw.tell("relative_happy")


def lesson(draw: Draw) -> None:
    """A friend teaches the hero what the hero could not do."""
    skill = draw.one("skill", phrases.SKILLS)
    draw.perhaps("lived", town=draw.one("phrase", phrases.TOWNS))
    draw.tell("could_not", s=skill)
    draw.tell("wanted_to_learn", s=skill)
    draw.tell("will_teach")
    draw.tell("went_daily", place=draw.one("place", phrases.SKILL_PLACES[skill.noun]))
    draw.tell("did_not_give_up")
    draw.tell("learned", s=skill, wait=draw.one("phrase", phrases.WAITS))
    draw.tell("does_well", s=skill)
    draw.perhaps("thanked")


def visit(draw: Draw) -> None:
    """The hero travels to a grandparent and hears a story."""
    draw.k = Phrase("kin", draw.rng.choice(("grandmother", "grandfather")), owner=draw.k.owner)
    animals = tuple(phrases.MEALS)
    seen = Phrase("animal", draw.rng.choice(animals), number=draw.rng.choice((2, 3, 4)))
    draw.tell("relative_lived", town=draw.one("phrase", phrases.TOWNS))
    draw.tell("travelled", vehicle=draw.one("phrase", phrases.VEHICLES))
    draw.perhaps("saw_many", animals=seen)
    draw.tell("served", food=draw.one("food", phrases.FOODS))
    draw.tell("told", animal=draw.one("animal", animals, phrases.COATS))
    draw.tell("fell_asleep")
    draw.perhaps(
        "went_relative",
        time=Phrase("phrase", "next-morning"),
        place=draw.one("place", phrases.OUTDOORS),
    )
    draw.perhaps("will_come_again")


PLOTS: tuple[Callable[[Draw], None], ...] = (
    lost_and_found,
    lost_and_found,
    errand,
    stray_animal,
    birthday,
    broken,
    lesson,
    visit,
)
