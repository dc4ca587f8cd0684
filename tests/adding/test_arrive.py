"""What comes from outside is copied as plain files of bounded size, or not at all."""

from __future__ import annotations

import io
import os
import stat
import zipfile
from pathlib import Path

import pytest

from node.adding import arrive
from node.adding.arrive import bring
from node.errors import ConfigError


def bundle(folder: Path) -> Path:
    (folder / "configs").mkdir(parents=True)
    (folder / "configs" / "metadata.json").write_text("{}")
    (folder / "configs" / "inference.json").write_text("{}")
    return folder


def archive(path: Path, entries: dict[str, bytes], edit=lambda info: None) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in entries.items():
            info = zipfile.ZipInfo(name)
            info.compress_type = zipfile.ZIP_DEFLATED
            edit(info)
            file.writestr(info, content)
    return path


GOOD = {"b/configs/metadata.json": b"{}", "b/configs/inference.json": b"{}"}


def names(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_a_folder_comes_without_what_tools_left_behind(tmp_path):
    source = bundle(tmp_path / "b")
    for name in ("__pycache__/x.pyc", ".git/config", "scripts/net.py"):
        (source / name).parent.mkdir()
        (source / name).write_text("x")
    bring(source, tmp_path / "copy")
    assert names(tmp_path / "copy") == {"configs/metadata.json", "configs/inference.json", "scripts/net.py"}


def test_the_only_bundle_in_a_folder_or_an_archive_is_meant(tmp_path):
    bundle(tmp_path / "outer" / "b")
    bring(tmp_path / "outer", tmp_path / "one")
    bring(archive(tmp_path / "b.zip", {**GOOD, "__MACOSX/b/._x": b"x"}), tmp_path / "two")
    assert (
        names(tmp_path / "one")
        == names(tmp_path / "two")
        == {"configs/metadata.json", "configs/inference.json"}
    )


def test_a_folder_that_is_no_bundle_is_refused_by_what_it_lacks(tmp_path):
    (tmp_path / "b").mkdir()
    with pytest.raises(ConfigError, match=r"no configs/metadata\.json"):
        bring(tmp_path / "b", tmp_path / "copy")


@pytest.mark.parametrize("what", ["file", "folder"])
def test_a_link_is_refused_wherever_it_leads(tmp_path, what):
    source = bundle(tmp_path / "b")
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "key").write_text("secret")
    (source / "models").symlink_to(tmp_path / "secret" if what == "folder" else tmp_path / "secret" / "key")
    with pytest.raises(ConfigError, match="is a link"):
        bring(source, tmp_path / "copy")


def test_a_pipe_is_refused_and_nobody_waits_for_it(tmp_path):
    os.mkfifo(bundle(tmp_path / "b") / "pipe")
    with pytest.raises(ConfigError, match="no plain file"):
        bring(tmp_path / "b", tmp_path / "copy")


@pytest.mark.parametrize(
    "name",
    [
        "../out.txt",
        "/etc/out.txt",
        "b/../../out.txt",
        "b/..",
        "b\\..\\..\\out.txt",
        "C:/out.txt",
        "b/a\nb",
        "x/" * 30 + "y",
    ],
)
def test_a_name_that_leads_elsewhere_is_refused_and_nothing_is_written_there(tmp_path, name):
    source = archive(tmp_path / "b.zip", {**GOOD, name: b"x"})
    with pytest.raises(ConfigError, match=r"leads out|cannot be used|too deep"):
        bring(source, tmp_path / "in" / "copy")
    assert not [*tmp_path.rglob("out.txt")]


def test_a_link_in_an_archive_is_refused(tmp_path):
    def link(info):
        if info.filename == "b/models":
            info.external_attr = (stat.S_IFLNK | 0o777) << 16

    with pytest.raises(ConfigError, match="link or a device"):
        bring(archive(tmp_path / "b.zip", {**GOOD, "b/models": b"/etc"}, link), tmp_path / "copy")


def test_a_name_that_is_there_twice_is_refused(tmp_path):
    path = archive(tmp_path / "b.zip", GOOD)
    with zipfile.ZipFile(path, "a") as file, pytest.warns(UserWarning, match="Duplicate"):
        file.writestr("b/configs/metadata.json", b'{"version": "2"}')
    with pytest.raises(ConfigError, match="twice"):
        bring(path, tmp_path / "copy")


def test_an_archive_that_grows_beyond_measure_is_stopped_by_what_it_gives_not_by_what_it_says(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(arrive, "LEEWAY_BYTES", 100_000)
    monkeypatch.setattr(arrive, "MOST_GROWTH", 10)
    bomb = archive(tmp_path / "b.zip", {**GOOD, "b/models/model.pt": bytes(50_000_000)})
    assert bomb.stat().st_size < 100_000
    with pytest.raises(ConfigError, match="larger than it may be"):
        bring(bomb, tmp_path / "copy")
    assert sum(p.stat().st_size for p in (tmp_path / "copy").rglob("*") if p.is_file()) < 3_000_000


def test_too_many_files_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(arrive, "MOST_FILES", 3)
    many = {f"b/{n}": b"" for n in range(5)}
    with pytest.raises(ConfigError, match="more than 3"):
        bring(archive(tmp_path / "b.zip", {**GOOD, **many}), tmp_path / "one")
    source = bundle(tmp_path / "b")
    for n in range(5):
        (source / str(n)).write_text("")
    with pytest.raises(ConfigError, match="more than 3"):
        bring(source, tmp_path / "two")


def test_damaged_archives_and_other_files_are_told(tmp_path):
    whole = archive(tmp_path / "b.zip", {**GOOD, "b/x": os.urandom(5000)}).read_bytes()
    (tmp_path / "flipped.zip").write_bytes(whole[:400] + bytes(200) + whole[600:])
    (tmp_path / "text.zip").write_text("hello")
    for name, told in (("flipped.zip", "damaged"), ("text.zip", "neither")):
        with pytest.raises(ConfigError, match=told):
            bring(tmp_path / name, tmp_path / name.replace(".zip", ""))


def test_a_folder_where_a_file_was_is_told(tmp_path):
    source = archive(tmp_path / "b.zip", {**GOOD, "b/x": b"1", "b/x/y": b"2"})
    with pytest.raises(ConfigError, match=r"b\.zip|cannot be read"):
        bring(source, tmp_path / "copy")


def test_a_torchscript_archive_with_its_configuration_becomes_a_bundle(tmp_path):
    import torch
    from monai.data import save_net_with_metadata

    network = torch.jit.trace(torch.nn.Conv3d(1, 2, 1), torch.zeros(1, 1, 4, 4, 4))
    save_net_with_metadata(
        network,
        str(tmp_path / "net.ts"),
        append_timestamp=False,
        meta_values={"version": "1.2.3"},
        more_extra_files={"inference.json": b'{"a": 1}', "run.py": b"evil"},
    )
    bring(tmp_path / "net.ts", tmp_path / "copy")
    assert names(tmp_path / "copy") == {"configs/metadata.json", "configs/inference.json", "models/model.ts"}
    assert "1.2.3" in (tmp_path / "copy" / "configs" / "metadata.json").read_text()
    torch.jit.load(str(tmp_path / "copy" / "models" / "model.ts"))


def test_a_torchscript_archive_without_one_is_told_how_to_get_it(tmp_path):
    import torch

    traced = torch.jit.trace(torch.nn.Identity(), torch.zeros(1))
    buffer = io.BytesIO()
    torch.jit.save(traced, buffer)
    (tmp_path / "net.ts").write_bytes(buffer.getvalue())
    with pytest.raises(ConfigError, match="ckpt_export"):
        bring(tmp_path / "net.ts", tmp_path / "copy")


def test_what_a_trial_nested_without_end_is_discarded(tmp_path):
    here = os.open(tmp_path, os.O_RDONLY)
    for _ in range(1500):
        os.mkdir("d", dir_fd=here)
        here, above = os.open("d", os.O_RDONLY, dir_fd=here), here
        os.close(above)
    os.close(here)
    arrive.discard(tmp_path / "d")
    assert not (tmp_path / "d").exists()
