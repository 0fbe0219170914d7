"""The animals fit the sources, and the keeper tells what it saw. (`make zoo` is the zoo itself.)"""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from d_engine.testing.sim.profiles import PROFILES
from tests.zoo import animals as zoo
from tests.zoo.animals import ROOT, Animal, Catch, StalePatch, load_animal, load_animals
from tests.zoo.keeper import keep
from tests.zoo.page import PAGE, page

ANIMALS = load_animals()


@pytest.mark.parametrize("animal", ANIMALS, ids=lambda animal: animal.name)
def test_the_animal_fits_the_sources(animal: Animal) -> None:
    for file, text in animal.patched().items():
        compile(text, file, "exec")


def test_there_are_enough_of_them_and_no_two_are_the_same() -> None:
    assert len(ANIMALS) >= 25
    changes = Counter(animal.replacements for animal in ANIMALS)
    assert max(changes.values()) == 1


@pytest.mark.parametrize("animal", ANIMALS, ids=lambda animal: animal.name)
def test_the_animal_was_caught(animal: Animal) -> None:
    assert animal.caught is not None
    assert animal.caught.profile in animal.profiles
    assert animal.caught.invariant in animal.invariants


def test_profiles_exist() -> None:
    assert PROFILES.keys() >= {profile for animal in ANIMALS for profile in animal.profiles}


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text() == page()


@pytest.fixture
def animal() -> Animal:
    return next(animal for animal in ANIMALS if animal.name == "ack_before_sync")


def test_text_that_is_not_there_is_refused(animal: Animal) -> None:
    change = replace(animal.replacements[0], old="nobody wrote this")
    with pytest.raises(StalePatch, match=r"ack_before_sync.* this stands 0 times"):
        replace(animal, replacements=(change,)).patched()


def test_the_bug_is_in_the_copy_and_not_in_the_tree(animal: Animal, tmp_path: Path) -> None:
    animal.bring_into(tmp_path / "src")
    change = animal.replacements[0]
    copied = (tmp_path / "src" / "d_engine" / change.file).read_text()
    assert change.new in copied
    assert change.old not in copied
    assert change.old in (ROOT / "src" / "d_engine" / change.file).read_text()


def test_what_was_recorded_is_read_again(
    animal: Animal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "ack_before_sync.toml"
    file.write_text((zoo.BUGS / file.name).read_text())
    monkeypatch.setattr(zoo, "BUGS", tmp_path)
    for caught in (Catch("general", 17, "I7", 18), Catch("crashes", 3, "I5", 4)):
        animal.record(caught)
        assert load_animal(file) == replace(animal, caught=caught)


def test_the_search_takes_the_profiles_in_turns(animal: Animal) -> None:
    both = replace(animal, profiles=("disk", "reads"))
    assert [both.run(number) for number in range(4)] == [("disk", 0), ("reads", 0), ("disk", 1), ("reads", 1)]


def test_the_keeper_catches_it_and_a_healthy_engine_passes(animal: Animal, tmp_path: Path) -> None:
    caught = animal.caught
    assert caught is not None
    run = (caught.profile, caught.seed)
    animal.bring_into(tmp_path / "src")
    (ill,) = keep(tmp_path / "src", [run])
    assert (ill.profile, ill.seed) == run
    assert ill.invariant in animal.invariants
    (healthy,) = keep(ROOT / "src", [run])
    assert (healthy.invariant, healthy.text) == ("", "")


def test_a_run_that_cannot_be_made_is_an_error() -> None:
    (outcome,) = keep(ROOT / "src", [("nonsense", 1)])
    assert outcome.invariant == "error"
    assert "nonsense" in outcome.text
