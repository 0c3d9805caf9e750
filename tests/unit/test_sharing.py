"""What the doctor says about parts that models share, from files in the Hugging Face cache's layout."""

from cli.host.checks.sharing import shared_parts


def snapshot(root, model, **parts):
    """Write a model whose weight files are links to blobs of these names."""
    for part, blob in parts.items():
        blobs = root / f"models--{model}" / "blobs"
        blobs.mkdir(parents=True, exist_ok=True)
        (blobs / blob).touch()
        folder = root / model / part
        folder.mkdir(parents=True)
        (folder / "model.safetensors").symlink_to(blobs / blob)
    return root / model


def test_parts_of_equal_content_are_said_to_serve_all_models(tmp_path):
    # Given two repositories with the same encoder and VAEs of their own
    schnell = snapshot(tmp_path, "schnell", text_encoder_2="a" * 64, vae="b" * 64)
    dev = snapshot(tmp_path, "dev", text_encoder_2="a" * 64, vae="c" * 64)
    # Then the doctor tells which is which
    assert list(shared_parts({"schnell": schnell, "dev": dev})) == [
        "text_encoder_2: one copy serves schnell, dev",
        "vae: 2 different ones, for schnell and dev; each takes memory of its own",
    ]


def test_one_model_shares_with_nobody(tmp_path):
    assert list(shared_parts({"schnell": snapshot(tmp_path, "schnell", vae="b" * 64)})) == []
    assert list(shared_parts({})) == []
