"""`python -m glm_operator`: the same as `glmctl`."""

from glm_operator.cli import main

if __name__ == "__main__":
    main()
