"""Story plans: the sequence of events of a story and the participants of each, in no language.

`plan_story(index, seed)` is a pure function. An event is a key (what happens) with participants by
slot: x is the hero, y a friend, k a relative of x, w the participant who feels something. A story
keeps its participants, so the thing that is lost is the thing that is found.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from lingraft.miniature import phrases
from lingraft.miniature.phrases import Phrase

TEMPLATE_NUMBERS = 6
"""An event draws a number below this; a language with fewer templates takes it modulo its own."""


@dataclass(frozen=True)
class StoryEvent:
    """One sentence of a plan: what happens, to whom, and the number of the template to render."""

    key: str
    slots: dict[str, Phrase]
    template: int


class StoryPlanner:
    """Draws the participants of a story and collects its events."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        hero, friend = rng.sample(phrases.PEOPLE, 2)
        sex = phrases.SEX[hero]
        self.x = Phrase("name", hero)
        self.y = Phrase("name", friend)
        self.k = Phrase("kin", rng.choice(phrases.RELATIVES), owner=sex)
        self.time = self._draw_time()
        self.events: list[StoryEvent] = []

    def _draw_time(self) -> Phrase:
        if self.rng.random() < 0.3:
            return Phrase("phrase", self.rng.choice(phrases.UNNAMED_TIMES))
        day = self.rng.choice(phrases.DAYS)
        return Phrase("day", day, adjective=self.rng.choice(phrases.PARTS_OF_DAY))

    def choose(self, *keys: str) -> str:
        """Draw one of the keys."""
        return self.rng.choice(keys)

    def draw(self, kind: str, keys: tuple[str, ...], adjectives: tuple[str, ...] = ()) -> Phrase:
        """Draw one participant, with an adjective if there are adjectives to choose from."""
        noun = self.rng.choice(keys)
        return Phrase(kind, noun, adjective=self.rng.choice(adjectives) if adjectives else "")

    def draw_thing(self) -> Phrase:
        """Draw a thing that a person can have, lose or give."""
        return self.draw("thing", phrases.THINGS, phrases.ADJECTIVES)

    def add(self, key: str, **slots: Phrase) -> None:
        """Add an event; hero, friend, relative and time are in the slots of every event."""
        known = {"x": self.x, "y": self.y, "k": self.k, "time": self.time}
        template = self.rng.randrange(TEMPLATE_NUMBERS)
        self.events.append(StoryEvent(key, known | slots, template))

    def maybe_add(self, key: str, **slots: Phrase) -> None:
        """Add an event in half of the stories."""
        if self.rng.random() < 0.5:
            self.add(key, **slots)

    def add_feeling(self, who: Phrase, feeling: str) -> None:
        """Add an event in which a participant feels something."""
        self.add("felt", w=who, f=Phrase("feeling", feeling))


def plan_story(index: int, seed: int) -> list[StoryEvent]:
    """Return the events of story `index`, the same in each process and for each language.

    >>> plan_story(3, seed=0) == plan_story(3, seed=0)
    True
    """
    # A string seed is hashed with SHA-512 by `random`, so the draws do not depend on the process.
    planner = StoryPlanner(random.Random(f"miniature {seed} {index}"))
    planner.rng.choice(PLOTS)(planner)
    return planner.events


def lost_and_found(story: StoryPlanner) -> None:
    """Someone loses a thing, a friend helps, and the same thing is found."""
    thing, place = story.draw_thing(), story.draw("place", phrases.DESTINATIONS)
    story.add("had", thing=thing)
    story.add(story.choose("present", "loved"), thing=thing)
    story.add(story.choose("went", "went_friend"), place=place)
    story.add("lost", thing=thing)
    story.maybe_add("searched", thing=thing)
    if story.rng.random() < 0.4:
        story.add_feeling(story.x, "sad")
    else:
        story.add("asked_why")
        story.add("answered", thing=thing)
        story.maybe_add("promised", thing=thing)
    spots = phrases.BUILDING_SPOTS if place.noun in phrases.BUILDINGS else phrases.FINDING_SPOTS
    story.add("found", thing=thing, spot=story.draw("phrase", spots))
    story.add("gave_back", thing=thing)
    story.add("thanked")


def errand(story: StoryPlanner) -> None:
    """Something is missing at home; the hero buys it and shares on the way back."""
    needed, extra = story.rng.sample(phrases.FOODS, 2)
    food, other = Phrase("food", needed), Phrase("food", extra)
    shop = story.draw("place", phrases.SHOPS)
    story.add("missing", food=food)
    story.add("asked_to_buy", food=food, place=shop)
    container = story.draw("thing", phrases.CONTAINERS, phrases.ADJECTIVES)
    story.add("took", thing=container, place=shop)
    story.add("bought_food", food=food, other=other)
    if story.rng.random() < 0.6:
        story.add("met")
        story.add_feeling(story.y, "hungry")
        story.add("shared", food=other)
    story.add("came_home")
    story.maybe_add("praised")
    story.add("ate_together", food=food)


def stray_animal(story: StoryPlanner) -> None:
    """A hungry or frightened animal is fed and finds a home."""
    name = story.rng.choice(tuple(phrases.ANIMAL_FOODS))
    animal = Phrase("animal", name, adjective=story.rng.choice(phrases.ANIMAL_ADJECTIVES))
    food = story.draw("food", phrases.ANIMAL_FOODS[name])
    story.add(story.choose("went", "went_friend"), place=story.draw("place", phrases.DESTINATIONS))
    story.add("saw", animal=animal)
    feeling = story.choose("hungry", "hungry", "tired", "afraid")  # half of the animals are hungry
    story.add_feeling(Phrase("animal", name), feeling)
    story.add("fed", animal=animal, food=food)
    story.add("animal_ate", animal=animal, food=food)
    story.add("took_home", animal=animal)
    if story.rng.random() < 0.5:
        story.add("asked_whose", animal=animal)
        story.add("my_friend", animal=animal)
    story.add("lives_now", animal=animal)
    story.maybe_add("plays_daily", animal=animal)


def birthday(story: StoryPlanner) -> None:
    """The hero buys a present, and the friend likes it."""
    thing = story.draw_thing()
    story.add("birthday")
    story.add("wanted_to_give")
    story.add(story.choose("went", "went_relative"), place=story.draw("place", phrases.SHOPS))
    story.add("bought_for", thing=thing)
    story.add("gave", thing=thing)
    story.add(story.choose("liked", "thanked_friend"), thing=thing)
    playground = story.draw("place", phrases.PLAYGROUNDS)
    story.maybe_add("played", place=playground)
    story.add("both_happy")


def broken(story: StoryPlanner) -> None:
    """The hero breaks something, tells the truth, is forgiven and replaces it."""
    thing = story.draw("thing", phrases.BREAKABLE_THINGS)
    story.add("was_playing", place=story.draw("place", phrases.PLAY_PLACES))
    story.add("broke", thing=thing)
    story.add_feeling(story.x, story.choose("afraid", "sad"))
    story.add("asked_who", thing=thing)
    story.add("confessed", thing=thing)
    story.add("not_angry")
    if story.rng.random() < 0.7:
        story.add("bought_new", thing=Phrase("thing", thing.noun, adjective="new"))
        story.add("relative_happy")


def lesson(story: StoryPlanner) -> None:
    """A friend teaches the hero what the hero could not do."""
    skill = story.draw("skill", phrases.SKILLS)
    story.maybe_add("lived", town=story.draw("phrase", phrases.HOMES))
    story.add("could_not", s=skill)
    story.add("wanted_to_learn", s=skill)
    story.add("will_teach")
    story.add("went_daily", place=story.draw("place", phrases.SKILL_PLACES[skill.noun]))
    story.add("did_not_give_up")
    story.add("learned", s=skill, wait=story.draw("phrase", phrases.DURATIONS))
    story.add("does_well", s=skill)
    story.maybe_add("thanked")


def visit(story: StoryPlanner) -> None:
    """The hero travels to a grandparent and hears a story."""
    grandparent = story.choose("grandmother", "grandfather")
    story.k = Phrase("kin", grandparent, owner=story.k.owner)
    animals = tuple(phrases.ANIMAL_FOODS)
    seen = Phrase("animal", story.rng.choice(animals), number=story.rng.choice((2, 3, 4)))
    story.add("relative_lived", town=story.draw("phrase", phrases.HOMES))
    story.add("travelled", vehicle=story.draw("phrase", phrases.VEHICLES))
    story.maybe_add("saw_many", animals=seen)
    story.add("served", food=story.draw("food", phrases.FOODS))
    story.add("told", animal=story.draw("animal", animals, phrases.ANIMAL_ADJECTIVES))
    story.add("fell_asleep")
    story.maybe_add(
        "went_relative",
        time=Phrase("phrase", "next-morning"),
        place=story.draw("place", phrases.DESTINATIONS),
    )
    story.maybe_add("will_come_again")


PLOTS: tuple[Callable[[StoryPlanner], None], ...] = (
    lost_and_found,
    lost_and_found,  # twice: a quarter of the stories
    errand,
    stray_animal,
    birthday,
    broken,
    lesson,
    visit,
)
