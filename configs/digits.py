from regjax.config import Config
def get_config():
    c = Config()
    c.optimizer.learning_rate=0.002
    return c
