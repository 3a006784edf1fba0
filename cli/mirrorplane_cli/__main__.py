"""`python -m mirrorplane_cli`."""

from mirrorplane_cli.main import run

if __name__ == "__main__":
    run()
