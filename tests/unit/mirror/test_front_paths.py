"""Paths to node ids: what is remembered, counted and let go; against a tree that counts references itself."""

from __future__ import annotations

import errno

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mirror_agent.mirror.front_paths import Change, Paths
from mirror_agent.mirror.fuse_abi import ROOT_NODEID


class Tree:
    """Directories as dictionaries of node ids; an id without references is forgotten and never used again."""

    def __init__(self) -> None:
        self.names: dict[tuple[int, bytes], object] = {}
        self.ids: dict[int, object] = {ROOT_NODEID: "root"}
        self.references: dict[int, int] = {}
        self.children: dict[object, dict[bytes, object]] = {"root": {}}
        self.looked_up = 0
        self._next = 16

    def add(self, directory: object, name: bytes, file: object) -> object:
        self.children[directory][name] = file
        self.children.setdefault(file, {})
        return file

    def look_up(self, directory: int, name: bytes) -> int:
        self.looked_up += 1
        found = self.children[self.ids[directory]].get(name)
        if found is None:
            return 0
        nodeid = next((one for one, file in self.ids.items() if file is found), 0)
        if not nodeid:
            nodeid, self._next = self._next, self._next + 1
            self.ids[nodeid] = found
        self.refer(nodeid)
        return nodeid

    def spelling(self, directory: int, name: bytes) -> bytes:
        entries = self.children[self.ids[directory]]
        return next((one for one in entries if one.lower() == name.lower()), name)

    def refer(self, nodeid: int) -> None:
        assert nodeid in self.ids, "an id that was forgotten"
        if nodeid != ROOT_NODEID:
            self.references[nodeid] = self.references.get(nodeid, 0) + 1

    def forget(self, nodeid: int, count: int) -> None:
        if nodeid == ROOT_NODEID:
            return
        assert self.references[nodeid] >= count
        self.references[nodeid] -= count
        if not self.references[nodeid]:
            del self.references[nodeid], self.ids[nodeid]


@pytest.fixture
def tree() -> Tree:
    made = Tree()
    made.add(made.add("root", b"d", "D"), b"f", "F")
    return made


def test_a_path_is_looked_up_once(tree: Tree) -> None:
    paths = Paths(tree)
    first, second = paths.hold(b"/d/f"), paths.hold(b"/d/f")
    assert first == second
    assert tree.ids[first] == "F"
    assert tree.looked_up == 2
    assert tree.references[first] == 3  # the name, and two who hold it
    assert paths.hold(b"/") == ROOT_NODEID


def test_a_missing_name_is_asked_for_again(tree: Tree) -> None:
    paths = Paths(tree)
    for _ in range(2):
        with pytest.raises(FileNotFoundError) as caught:
            paths.hold(b"/d/none")
        assert caught.value.errno == errno.ENOENT
    tree.add("D", b"none", "N")
    assert tree.ids[paths.hold(b"/d/none")] == "N"


def test_whoever_holds_a_removed_file_keeps_it(tree: Tree) -> None:
    paths = Paths(tree)
    held = paths.hold(b"/d/f")
    directory, name = paths.hold_directory(b"/d/f")
    del tree.children["D"][b"f"]
    paths.changed(Change(gone=((directory, name),)))
    assert tree.ids[held] == "F"
    with pytest.raises(FileNotFoundError):
        paths.hold(b"/d/f")
    paths.release(held)
    assert held not in tree.ids


def test_a_moved_directory_takes_its_names_along(tree: Tree) -> None:
    paths = Paths(tree)
    held = paths.hold(b"/d/f")
    tree.children["root"][b"e"] = tree.children["root"].pop(b"d")
    paths.changed(Change(moved=(((ROOT_NODEID, b"d"), (ROOT_NODEID, b"e")),)))
    looked_up = tree.looked_up
    assert paths.hold(b"/e/f") == held
    assert tree.looked_up == looked_up
    with pytest.raises(FileNotFoundError):
        paths.hold(b"/d/f")


def test_an_exchange(tree: Tree) -> None:
    tree.add("root", b"g", "G")
    paths = Paths(tree)
    d, g = paths.hold(b"/d"), paths.hold(b"/g")
    children = tree.children["root"]
    children[b"d"], children[b"g"] = children[b"g"], children[b"d"]
    paths.exchanged((ROOT_NODEID, b"d"), (ROOT_NODEID, b"g"))
    assert (paths.hold(b"/d"), paths.hold(b"/g")) == (g, d)


_NAMES = st.sampled_from([b"a", b"b", b"c"])
_STEP: st.SearchStrategy[tuple[str, list[bytes]]] = st.one_of(
    st.tuples(st.just("hold"), st.lists(_NAMES, min_size=1, max_size=3)),
    st.tuples(st.just("make"), st.lists(_NAMES, min_size=1, max_size=3)),
    st.tuples(st.just("remove"), st.lists(_NAMES, min_size=1, max_size=3)),
    st.tuples(st.just("release"), st.just([])),
)


@given(st.lists(_STEP, max_size=40), st.integers(4, 6))
def test_nothing_is_forgotten_too_early_or_kept_for_ever(steps: list[tuple[str, list[bytes]]], names_max: int) -> None:
    tree = Tree()
    paths = Paths(tree, names_max)
    held: list[tuple[int, object]] = []
    for number, (what, parts) in enumerate(steps):
        path = b"/" + b"/".join(parts)
        if what == "release" and held:
            paths.release(held.pop()[0])
        elif what == "hold":
            try:
                nodeid = paths.hold(path)
            except FileNotFoundError:
                continue
            held.append((nodeid, tree.ids[nodeid]))
        elif what in ("make", "remove"):
            try:
                directory, name = paths.hold_directory(path)
            except FileNotFoundError:
                continue
            inside = tree.children[tree.ids[directory]]
            if what == "make" and name not in inside:
                tree.add(tree.ids[directory], name, f"file {number}")
                paths.changed(Change(made=(((directory, name), tree.look_up(directory, name)),)))
            elif what == "remove" and name in inside and not tree.children[inside[name]]:
                del inside[name]
                paths.changed(Change(gone=((directory, name),)))
            paths.release(directory)
        assert len(paths) <= names_max
        assert all(tree.ids[nodeid] is file for nodeid, file in held)
    for nodeid, _ in held:
        paths.release(nodeid)
    paths.close()
    assert not tree.references


def test_where_spellings_are_alike_each_is_found_and_none_outlives_a_change(tree: Tree) -> None:
    paths = Paths(tree, alike=bytes.lower)
    nodeid = paths.hold(b"/D/F")
    assert paths.hold(b"/d/f") == paths.hold(b"/d/F") == nodeid
    directory, name = paths.hold_directory(b"/D/F")
    assert name == b"f"
    for held in (nodeid, nodeid, nodeid, directory):
        paths.release(held)
    del tree.children["D"][b"f"]
    paths.changed(Change(gone=((directory, b"f"),)))
    for spelled in (b"/d/f", b"/D/F", b"/d/F"):
        with pytest.raises(FileNotFoundError):
            paths.hold(spelled)
    paths.close()
    assert tree.references == {}


def test_a_renamed_spelling_is_found_under_its_new_name_only(tree: Tree) -> None:
    paths = Paths(tree, alike=bytes.lower)
    directory = paths.hold(b"/d")
    for spelled in (b"/d/f", b"/d/F"):
        paths.release(paths.hold(spelled))
    tree.children["D"][b"g"] = tree.children["D"].pop(b"f")
    paths.changed(Change(moved=(((directory, b"f"), (directory, b"g")),)))
    with pytest.raises(FileNotFoundError):
        paths.hold(b"/d/F")
    paths.release(paths.hold(b"/d/G"))
    paths.release(directory)
    paths.close()
    assert tree.references == {}
