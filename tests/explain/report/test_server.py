"""The server answers its own page on the loopback address, and nobody else."""

import json
import threading
import urllib.error
import urllib.request

import pytest
from tests.explain.report.reading import Read

from chainrule.cli import commands
from chainrule.errors import SettingError
from chainrule.explain.report.serving import Served


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    from click.testing import CliRunner

    run = tmp_path_factory.mktemp("served") / "run"
    result = CliRunner().invoke(
        commands, ["train", "digits", "--epochs", "2", "--hidden", "8", "--batch-size", "64", "--out", str(run)]
    )
    assert result.exit_code == 0, result.output
    return run


@pytest.fixture
def server(folder):
    server = Served(folder).server()
    thread = threading.Thread(target=server.serve, daemon=True)
    thread.start()
    yield server
    server.close()
    thread.join()


def host(server):
    return f"127.0.0.1:{server.port}"


def test_the_page_comes_with_the_headers_that_keep_it_to_itself(server):
    with urllib.request.urlopen(server.url) as response:
        page = response.read().decode()
        assert response.headers["Cache-Control"] == "no-store"
        assert response.headers["X-Frame-Options"] == "DENY"
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert response.headers["Referrer-Policy"] == "no-referrer"
    assert "connect-src 'self'" in page
    assert Read(page).document["live"] == {"running": False, "version": 2 * 46 + 1, "first": 0, "end": 46}


def test_only_the_loopback_address_is_bound(server):
    assert server._http.server_address[0] == "127.0.0.1"


@pytest.mark.parametrize(
    "name", ["evil.example", "evil.example:{port}", "127.0.0.1", "", "127.0.0.1:{port}.evil.example"]
)
def test_a_request_under_another_name_is_refused(server, name):
    status, _, body = server.answer(name.format(port=server.port), f"/{server.token}/")
    assert (status, body) == (403, b"This address answers only under its own name.")


@pytest.mark.parametrize(
    "path", ["/", "/favicon.ico", "/wrong/", "/wrong/document?after=0", "/{token}x/", "/{token}/other", "/%00/"]
)
def test_without_the_token_there_is_nothing(server, path):
    status, _, body = server.answer(host(server), path.format(token=server.token))
    assert (status, body) == (404, b"There is nothing here.")


def test_two_servers_have_two_tokens(folder):
    first, second = Served(folder).server(), Served(folder).server()
    assert first.token != second.token
    assert len(first.token) >= 32
    for server in (first, second):
        server._http.server_close()


def test_nothing_can_be_written(server):
    request = urllib.request.Request(server.url, data=b"x", method="POST")
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(request)
    with caught.value:  # it holds the connection
        assert caught.value.code == 501


def test_any_weight_at_any_step_can_be_asked_for(server, folder):
    answer = server.answer(host(server), f"/{server.token}/explain?parameter=4.weight&index=3,5&step=17")
    assert answer[0] == 200
    found = json.loads(answer[2])
    moment = Served(folder).run.at(17)
    assert found["value"] == moment.weights["4.weight"][3, 5]
    assert found["gradient"] == moment.gradients["4.weight"][3, 5]
    assert found["new"] == moment.after["4.weight"][3, 5]


@pytest.mark.parametrize(
    ("query", "status", "text"),
    [
        ("parameter=nothing&index=0&step=3", 422, "view: there is no parameter 'nothing' with a gradient. There are: 1.weight, 1.bias, 4.weight, 4.bias."),
        ("parameter=1.bias&index=99&step=3", 422, "view: [99] is no index of 1.bias, which has shape (8,)."),
        ("parameter=1.bias&index=-1&step=3", 422, "view: [-1] is no index of 1.bias, which has shape (8,)."),
        ("parameter=1.bias&index=a&step=3", 400, "not a request this page makes: "),
        ("parameter=1.bias", 400, "not a request this page makes: KeyError('index')"),
    ],
)  # fmt: skip
def test_questions_that_cannot_be_answered(server, query, status, text):
    answer = server.answer(host(server), f"/{server.token}/explain?{query}")
    assert answer[0] == status
    assert json.loads(answer[2])["error"].startswith(text)


def test_what_follows_from_any_change_can_be_asked_for(server, folder):
    query = "what_if?kind=weight&parameter=4.weight&index=3,+5&value=0.5&step=17"
    status, _, body = server.answer(host(server), f"/{server.token}/{query}")
    assert status == 200
    found = json.loads(body)
    expected = Served(folder).run.what_if(17, len(found["changed"]["losses"]), weights={"4.weight[3, 5]": 0.5})
    assert found["changed"]["losses"] == expected.changed.losses.tolist()
    assert found["original"]["losses"] == expected.original.losses.tolist()
    assert found["changed"]["gradient"] == expected.changed.gradients["4.weight[3, 5]"]


@pytest.mark.parametrize(
    ("query", "status", "text"),
    [
        ("kind=rate&value=-2&step=3", 422, "what_if: lr must be a number of 0 or more, got -2.0."),
        ("kind=rate&value=many&step=3", 400, "not a request this page makes: "),
        ("kind=rate&step=3", 400, "not a request this page makes: KeyError('value')"),
        ("kind=rate&value=1&step=9999", 422, ""),
    ],
)
def test_changes_that_cannot_be_asked_for(server, query, status, text):
    answer = server.answer(host(server), f"/{server.token}/what_if?{query}")
    assert answer[0] == status
    assert json.loads(answer[2])["error"].startswith(text)


def test_a_finished_run_has_nothing_new(server):
    status, _, body = server.answer(host(server), f"/{server.token}/document?after=93")
    assert (status, body) == (204, b"")
    status, _, body = server.answer(host(server), f"/{server.token}/document?after=3")
    assert status == 200
    assert set(json.loads(body)) == {"document", "tensors"}


def test_a_run_is_followed_as_its_record_grows(folder, tmp_path):
    """The record of a run that is still going on is a prefix of the finished one's."""
    import shutil

    copy = tmp_path / "run"
    shutil.copytree(folder, copy)
    (copy / "model.safetensors").unlink()
    log = copy / "record" / "steps.bin"
    whole = log.read_bytes()
    log.write_bytes(whole[: 40 * 20])
    served = Served(copy, live=True)
    version, (first, _) = served.make(-1)
    assert first["live"] == {"running": True, "version": version, "first": 0, "end": 20}
    assert len(first["curves"][0]["at"]) == 20
    assert served.make(version) is None
    log.write_bytes(whole)
    later, (second, _) = served.make(version)
    assert second["live"] == {"running": True, "version": later, "first": 0, "end": later // 2}
    assert second["frames"][-1]["step"] > first["frames"][-1]["step"]
    assert len(second["curves"][0]["at"]) == 46
    (copy / "model.safetensors").write_bytes(b"written last")
    end, (third, _) = served.make(later)
    assert third["live"] == {"running": False, "version": end, "first": 0, "end": end // 2}
    assert served.make(end) is None


def test_a_step_written_while_the_page_is_made_is_not_missed(folder, tmp_path, monkeypatch):
    import shutil

    copy = tmp_path / "run"
    shutil.copytree(folder, copy)
    (copy / "model.safetensors").unlink()
    served = Served(copy, live=True)
    reopen = served._reopen

    def ends_meanwhile():
        reopen()
        (copy / "model.safetensors").write_bytes(b"written last")

    monkeypatch.setattr(served, "_reopen", ends_meanwhile)
    version, (document, _) = served.make(-1)
    assert document["live"]["running"]  # so the page looks again
    assert served.make(version)[1][0]["live"]["running"] is False


def test_the_page_of_a_run_is_written_to_a_file(folder, tmp_path):
    from click.testing import CliRunner

    out = tmp_path / "page.html"
    result = CliRunner().invoke(commands, ["view", str(folder), "--out", str(out)])
    assert result.exit_code == 0, result.output
    size = len(out.read_bytes())
    assert result.output == f"{out}: {size:,} bytes; it needs no network and no server\n"
    assert size < 2_000_000
    assert Read(out.read_text(encoding="utf-8")).document["title"] == f"digits, {folder.name}"


def test_an_index_of_the_wrong_length_is_told(folder):
    with pytest.raises(SettingError) as caught:
        Served(folder).ask("1.weight", [1], 3)
    assert str(caught.value) == "view: [1] is no index of 1.weight, which has shape (8, 64)."
