"""The GLMDeployment operator and the glmctl program."""
