"""All commands of ours, as the code has them."""

from conftest import ROOT

CHILD_OF_A_BUILD = "pipelines.decoding.child"  # no command: it serves a socket
COMMANDS = sorted(
    {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__main__")
        for folder in ("datasets", "pipelines", "train")
        for path in (ROOT / folder).rglob("*.py")
        if 'if __name__ == "__main__":' in path.read_text()
    }
    - {CHILD_OF_A_BUILD}
)
