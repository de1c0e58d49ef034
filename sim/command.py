"""thin"""
from hydra import compose, initialize_config_module
