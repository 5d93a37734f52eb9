"""Drives a hub with whatever huggingface_hub this Python has, and prints what it saw as JSON.

Usage: python hub_client_script.py ENDPOINT CACHE_DIR MEMBER_TOKEN STRANGER_TOKEN

It imports nothing of zoo, so that it runs in an environment that has the client alone.
"""

import json
import sys
from pathlib import Path

from huggingface_hub import HfApi, hf_hub_download, snapshot_download
from huggingface_hub.errors import HTTPError

ENDPOINT, CACHE, MEMBER, STRANGER = sys.argv[1:]
REPO = "acme/digits"
api = HfApi(endpoint=ENDPOINT, token=False)


def download(repo, file, token=False, cache=CACHE, **options):
    return hf_hub_download(repo, file, endpoint=ENDPOINT, cache_dir=cache, token=token, **options)


def kind_of_error(call, *args, **options):
    try:
        call(*args, **options)
    except HTTPError as error:
        return type(error).__name__
    return None


def metadata():
    info = api.model_info(REPO, files_metadata=True)
    folder, config = api.get_paths_info(REPO, ["sub", "config.json", "nowhere"], expand=True)
    return {
        "sha": info.sha,
        "tags": info.tags,
        "files": {s.rfilename: [s.size, s.blob_id, s.lfs and s.lfs.sha256] for s in info.siblings},
        "at tag": api.model_info(REPO, revision="v1").sha,
        "tree": [entry.path for entry in api.list_repo_tree(REPO, recursive=True)],
        "root": [entry.path for entry in api.list_repo_tree(REPO)],
        "last commits": [folder.last_commit.title, config.last_commit.title],
        "refs": [
            (ref.ref, ref.target_commit)
            for refs in [api.list_repo_refs(REPO)]
            for ref in refs.branches + refs.tags
        ],
        "commits": [(commit.commit_id, commit.title) for commit in api.list_repo_commits(REPO)],
        "tensors": {
            name: [info.dtype, info.shape]
            for file in api.get_safetensors_metadata(REPO).files_metadata.values()
            for name, info in file.tensors.items()
        },
        "whoami": api.whoami(token=MEMBER)["name"],
        "exists": [api.file_exists(REPO, "config.json"), api.file_exists(REPO, "nowhere")],
    }


def listings():
    def names(**query):
        return [model.id for model in api.list_models(**query)]

    return {
        "author": names(author="acme"),
        "search": names(search="DIG"),
        "filter": names(filter=["digits", "license:mit"]),
        "task": names(pipeline_tag="image-classification"),
        "limit": names(limit=1),
        "member": names(token=MEMBER),
    }


def files():
    folder = Path(snapshot_download(REPO, endpoint=ENDPOINT, cache_dir=CACHE, token=False))
    return {
        "download": Path(download(REPO, "sub/a b#ü%.txt")).read_text("utf-8"),
        "of tag": Path(download(REPO, "config.json", revision="v1")).read_text(),
        "of branch": Path(download(REPO, "config.json", revision="try/it")).read_text(),
        "private": Path(download("acme/secret", "config.json", token=MEMBER)).read_text(),
        "gated": Path(download("acme/gated", "config.json", token=MEMBER)).read_text(),
        "snapshot": sorted(str(f.relative_to(folder)) for f in folder.rglob("*") if f.is_file()),
    }


def errors():
    def of_download(file="config.json", repo=REPO, **options):
        # In an empty cache: the client answers a refusal with the copy that it has.
        return kind_of_error(download, repo, file, cache=f"{CACHE}/empty", **options)

    return {
        "no repo": of_download(repo="acme/nothing"),
        "no repo info": kind_of_error(api.model_info, "acme/nothing"),
        "no owner": of_download(repo="digits"),
        "no owner info": kind_of_error(api.model_info, "digits"),
        "no revision": of_download(revision="nowhere"),
        "no revision info": kind_of_error(api.model_info, REPO, revision="nowhere"),
        "no file": of_download("nowhere.json"),
        "no folder": kind_of_error(lambda: list(api.list_repo_tree(REPO, "nowhere"))),
        "private": of_download(repo="acme/secret"),
        "private, stranger": of_download(repo="acme/secret", token=STRANGER),
        "gated": of_download(repo="acme/gated"),
        "gated, stranger": of_download(repo="acme/gated", token=STRANGER),
        "bad token": of_download(token="hf_bad"),
        "bad whoami": kind_of_error(api.whoami, token="hf_bad"),
    }


print(json.dumps({**metadata(), "listings": listings(), **files(), "errors": errors()}))
