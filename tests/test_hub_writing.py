"""The hub's writing half, driven by the real `huggingface_hub` client; large files go by LFS."""

import io
import threading

import pytest
from hub_fixtures import MEMBER, REPO, WEIGHTS, commit, git_oid, inline, stored

# The client's own way of sending a stream.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

CONTENT = bytes(range(256)) * 14_000  # 3.6 MB


@pytest.fixture
def api(hub):
    from huggingface_hub import HfApi

    return HfApi(endpoint=hub.url, token=MEMBER)


def files(hub, revision="main", repo=REPO):
    """The content of every file."""
    found = hub.storage.commit_at(hub.storage.repo(repo), revision).files
    return {path: hub.storage.blob_path(blob).read_bytes() for path, blob in found.items()}


def stream(content):
    return io.BufferedReader(io.BytesIO(content))


# Repos


def test_life_of_a_repo(hub, api):
    from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError

    url = api.create_repo("acme/new", private=True)
    assert (url, url.repo_id) == (f"{hub.url}/acme/new", "acme/new")
    assert api.create_repo("acme/new", exist_ok=True).repo_id == "acme/new"
    with pytest.raises(HfHubHTTPError, match="'acme/new' exists already"):
        api.create_repo("acme/new")
    info = api.model_info("acme/new")
    assert (info.private, info.siblings) == (True, [])
    assert [c.title for c in api.list_repo_commits("acme/new")] == ["Initial commit"]
    api.update_repo_settings("acme/new", private=False, gated="auto")
    assert (hub.storage.repo("acme/new").private, hub.storage.repo("acme/new").gated) == (
        False,
        True,
    )
    api.move_repo("acme/new", "acme/moved")
    assert not api.repo_exists("acme/new")
    assert api.repo_exists("acme/moved")
    api.delete_repo("acme/moved")
    with pytest.raises(RepositoryNotFoundError):
        api.delete_repo("acme/moved")
    api.delete_repo("acme/moved", missing_ok=True)
    assert hub.storage.repos() == []


def test_repo_without_owner_is_the_users_own(hub, api):
    assert api.create_repo("mine").repo_id == "ada/mine"
    assert hub.storage.repo("ada/mine").private is False


def test_datasets_and_spaces_are_refused(hub, api):
    from huggingface_hub.errors import HfHubHTTPError

    with pytest.raises(HfHubHTTPError, match="keeps models; it cannot make or change a dataset"):
        api.create_repo("acme/data", repo_type="dataset")


def test_move_onto_another_repo(hub, api, digits):
    from huggingface_hub.errors import HfHubHTTPError

    api.create_repo("acme/other")
    with pytest.raises(HfHubHTTPError, match="exists already"):
        api.move_repo("acme/other", REPO)
    assert [repo.id for repo in hub.storage.repos()] == [REPO, "acme/other"]


def test_lists_are_sorted_as_asked(hub, api):
    for name in ["b", "a", "c"]:
        hub.storage.commit(f"acme/{name}", {"x": b""})
    hub.storage.commit("acme/b", {"y": b""})
    assert next(iter(api.list_models(sort="last_modified"))).id == "acme/b"
    assert [model.id for model in api.list_models(limit=2)] == ["acme/a", "acme/b"]


# Commits


def test_commit_of_every_kind(hub, api, digits):
    from huggingface_hub import CommitOperationAdd as Add
    from huggingface_hub import CommitOperationCopy as Copy
    from huggingface_hub import CommitOperationDelete as Delete

    before = files(hub)
    first = api.create_commit(
        REPO,
        [Add("sub/a.txt", b"a"), Add("sub/b.bin", stream(CONTENT)), Add("empty", b"")],
        commit_message="First",
        commit_description="With a description.",
    )
    assert files(hub) == {**before, "sub/a.txt": b"a", "sub/b.bin": CONTENT, "empty": b""}
    head = hub.storage.commit_at(hub.storage.repo(REPO), "main")
    assert (head.id, head.parent, head.author) == (first.oid, digits, "ada")
    assert head.message == "First\n\nWith a description."
    assert (head.files["sub/a.txt"].lfs, head.files["sub/b.bin"].lfs) == (False, True)
    assert head.files["sub/a.txt"].oid == git_oid(b"a")
    api.create_commit(
        REPO,
        [
            Copy("sub/a.txt", "copy.txt"),
            Copy("sub/b.bin", "copy.bin"),
            Delete("config.json"),
            Delete("sub/"),
        ],
        commit_message="Second",
    )
    del before["config.json"]
    assert files(hub) == {**before, "copy.txt": b"a", "copy.bin": CONTENT, "empty": b""}
    assert [c.title for c in api.list_repo_commits(REPO)] == ["Second", "First", "Upload files"]


def test_upload_of_a_folder(hub, api, tmp_path):
    folder = tmp_path / "folder"
    (folder / "sub").mkdir(parents=True)
    (folder / "sub/é b#.txt").write_bytes(b"1")
    (folder / "model.safetensors").write_bytes(WEIGHTS)
    api.create_repo(REPO)
    api.upload_folder(repo_id=REPO, folder_path=folder)
    assert files(hub) == {"sub/é b#.txt": b"1", "model.safetensors": WEIGHTS}
    api.upload_folder(repo_id=REPO, folder_path=folder / "sub", delete_patterns="*.safetensors")
    assert files(hub) == {"sub/é b#.txt": b"1", "é b#.txt": b"1"}


def test_large_file_in_parts(hub, api, digits, monkeypatch):
    monkeypatch.setattr("zoo.hub.lfs.PART", 1 << 20)
    api.upload_file(repo_id=REPO, path_or_fileobj=stream(CONTENT), path_in_repo="big.bin")
    assert files(hub)["big.bin"] == CONTENT
    puts = [r.path.rpartition("/")[2] for r in hub.requests if r.method == "PUT"]
    assert puts == ["1", "2", "3", "4"]
    sent = [r for r in hub.requests if "/api/lfs/" in r.path and not r.path.endswith("verify")]
    assert all("authorization" not in request.headers for request in sent)


def test_content_that_is_here_is_not_sent_again(hub, api, digits):
    for path in ["one.bin", "two.bin"]:
        api.upload_file(repo_id=REPO, path_or_fileobj=stream(CONTENT), path_in_repo=path)
    assert sum(request.method == "PUT" for request in hub.requests) == 1
    assert files(hub)["two.bin"] == CONTENT


def test_unchanged_file_makes_no_commit(hub, api, digits):
    api.upload_file(repo_id=REPO, path_or_fileobj=WEIGHTS, path_in_repo="model.safetensors")
    assert hub.storage.repo(REPO).branches == {"main": digits}


def test_two_commits_at_once_on_one_parent(hub, api, digits):
    from huggingface_hub import CommitOperationAdd
    from huggingface_hub.errors import HfHubHTTPError

    assert api.repo_exists(REPO)  # the client's session is made before its threads race for it
    start, outcomes = threading.Barrier(2), {}

    def work(name):
        change = [CommitOperationAdd(f"{name}.txt", name.encode())]
        start.wait()
        try:
            made = api.create_commit(REPO, change, commit_message=name, parent_commit=digits)
            outcomes[name] = made.oid
        except HfHubHTTPError as error:
            outcomes[name] = error.response.status_code

    threads = [threading.Thread(target=work, args=(name,)) for name in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    lost = next(name for name in "ab" if outcomes[name] == 412)
    won = "ab".replace(lost, "")
    assert hub.storage.repo(REPO).branches == {"main": outcomes[won]}
    again = [CommitOperationAdd(f"{lost}.txt", lost.encode())]
    api.create_commit(REPO, again, commit_message=lost, parent_commit=outcomes[won])
    assert {"a.txt", "b.txt", "config.json"} <= files(hub).keys()


def test_commits_without_a_parent_all_arrive(hub, digits):
    threads = [
        threading.Thread(target=commit, args=(hub, inline(f"{n}.txt", b"%d" % n))) for n in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {f"{n}.txt" for n in range(8)} <= files(hub).keys()


def test_pull_request(hub, api, digits):
    options = {"repo_id": REPO, "path_or_fileobj": b"x", "create_pr": True}
    made = [api.upload_file(path_in_repo=name, **options) for name in ["a", "b"]]
    assert [commit.pr_url for commit in made] == [
        f"{hub.url}/{REPO}/discussions/{n}" for n in (1, 2)
    ]
    assert hub.storage.repo(REPO).branches == {"main": digits}
    assert set(files(hub, "refs/pr/2")) == {*files(hub), "b"}
    api.upload_file(repo_id=REPO, path_or_fileobj=b"y", path_in_repo="c", revision="refs/pr/1")
    assert set(files(hub, "refs/pr/1")) == {*files(hub), "a", "c"}
    pulls = api.list_repo_refs(REPO, include_pull_requests=True).pull_requests
    assert [pull.ref for pull in pulls] == ["refs/pr/1", "refs/pr/2"]


def test_pull_request_is_merged(hub, api, digits):
    from huggingface_hub.errors import HfHubHTTPError

    pulls = [api.create_pull_request(REPO, title=f"Change {n}") for n in (1, 2)]
    assert [(pull.num, pull.title, pull.status) for pull in pulls] == [
        (1, "Change 1", "open"),
        (2, "Change 2", "open"),
    ]
    made = api.upload_file(
        repo_id=REPO, path_or_fileobj=b"x", path_in_repo="x", revision="refs/pr/1"
    )
    assert "x" not in files(hub)
    api.merge_pull_request(REPO, 1)
    assert hub.storage.repo(REPO).branches == {"main": made.oid}
    assert api.get_discussion_details(REPO, 1).status == "merged"
    with pytest.raises(HfHubHTTPError, match="has moved on since"):
        api.merge_pull_request(REPO, 2)
    assert hub.storage.repo(REPO).branches == {"main": made.oid}


def test_broken_model_card_is_reported(hub, api, digits):
    broken = b"---\ntags: [\n---\n"
    with pytest.raises(ValueError, match="front matter is no YAML"):
        api.upload_file(repo_id=REPO, path_or_fileobj=broken, path_in_repo="README.md")
    assert hub.storage.repo(REPO).branches == {"main": digits}


# Branches and tags


def test_branches_and_tags(hub, api, digits):
    from huggingface_hub.errors import HfHubHTTPError, RevisionNotFoundError

    api.create_tag(REPO, tag="v1", tag_message="The first")
    api.create_branch(REPO, branch="try/it", revision="v1")
    api.upload_file(repo_id=REPO, path_or_fileobj=b"x", path_in_repo="x", revision="try/it")
    assert "x" in files(hub, "try/it")
    assert hub.storage.repo(REPO).tags == {"v1": digits}
    for make, name in [(api.create_tag, "tag"), (api.create_branch, "branch")]:
        with pytest.raises(HfHubHTTPError, match="already"):
            make(REPO, **{name: "v1"})
        make(REPO, **{name: "v1" if name == "tag" else "try/it"}, exist_ok=True)
        with pytest.raises(RevisionNotFoundError):
            make(REPO, **{name: "new"}, revision="nowhere")
    api.delete_branch(REPO, branch="try/it")
    api.delete_tag(REPO, tag="v1")
    with pytest.raises(RevisionNotFoundError):
        api.delete_tag(REPO, tag="v1")
    with pytest.raises(HfHubHTTPError, match="cannot be deleted"):
        api.delete_branch(REPO, branch="main")
    refs = hub.storage.repo(REPO)
    assert (refs.branches, refs.tags) == ({"main": digits}, {})


def test_commit_on_a_tag_or_a_missing_branch(hub, digits):
    hub.storage.tag(REPO, "v1")
    for revision in ["v1", digits, "nowhere"]:
        status, code, _ = commit(hub, inline("a"), revision=revision)
        assert (revision, status, code) == (revision, 404, "RevisionNotFound")
    assert len(stored(hub)) == 4  # the content came in, and gc will take it
