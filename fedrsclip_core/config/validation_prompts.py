"""Which prompts, fusions and loss terms go together."""

from fedrsclip_core.config.schema import RANDOM_INIT, TRANSPORT, Config, PromptConfig
from fedrsclip_core.errors import ConfigError

_PROMPTS_OF_TERM = {
    "lambda_fused": ("shared", "private"),
    "lambda_shared": ("shared",),
    "lambda_private": ("private",),
    "lambda_dpac": ("shared", "private"),
    "lambda_cmfac": ("shared", "private"),
    "lambda_contrast": ("shared", "private"),
}


def check_prompts(config: Config) -> None:
    """Check prompts, fusion and loss together.

    Raises
    ------
    ConfigError
        One sentence that names the key.
    """
    _check_rates(config)
    _check_terms(config)
    _check_starts(config.prompt)
    _check_fusion(config)
    _check_offset(config.prompt)


def _check_rates(config: Config) -> None:
    prompt, optimizer = config.prompt, config.optimizer
    if optimizer.lr == 0 and (optimizer.private_lr is None or not prompt.private):
        raise ConfigError(
            "optimizer.lr is 0: it must be above 0, unless a private prompt has its own "
            "optimizer.private_lr"
        )


def _check_terms(config: Config) -> None:
    prompt, loss = config.prompt, config.loss
    for term, needed in _PROMPTS_OF_TERM.items():
        weight = getattr(loss, term)
        missing = [name for name in needed if not getattr(prompt, name)]
        if weight > 0 and missing:
            raise ConfigError(
                f"loss.{term} is {weight:g} but prompt.{missing[0]} is false: set it to 0, or "
                "choose a method that has this prompt"
            )
    if config.run.shared_init_from is not None and not prompt.shared:
        raise ConfigError("run.shared_init_from needs the shared prompt: prompt.shared is false")
    if prompt.finetune_epochs and not prompt.shared:
        raise ConfigError("prompt.finetune_epochs needs the shared prompt: prompt.shared is false")
    if config.federation.num_rounds == 0:
        return
    if not prompt.shared and not prompt.private:
        raise ConfigError(
            f"federation.num_rounds is {config.federation.num_rounds} but there is no prompt to "
            "train: set it to 0, or prompt.shared or prompt.private to true"
        )
    if not any(getattr(loss, term) > 0 for term in _PROMPTS_OF_TERM):
        raise ConfigError("all weights loss.lambda_* are 0: nothing would be trained")


def _check_starts(prompt: PromptConfig) -> None:
    words = prompt.private_init.split()
    # An offset from the shared prompt has a start of its own.
    both = prompt.shared and prompt.private and prompt.private_rank is None
    if both and words == prompt.shared_init.split() and prompt.private_init != RANDOM_INIT:
        raise ConfigError(
            f"prompt.private_init and prompt.shared_init are both {prompt.private_init!r}: equal "
            "prompts stay equal, and sending the shared one would send the private one; set "
            "prompt.private_init=random or other words"
        )


def _check_fusion(config: Config) -> None:
    prompt, loss = config.prompt, config.loss
    if prompt.fusion in ("gate", "class_gate") and not 0 < prompt.beta < 1:
        raise ConfigError(
            f"prompt.beta is {prompt.beta:g}: as the start of a learned gate "
            f"(prompt.fusion={prompt.fusion}) it must lie between 0 and 1"
        )
    if prompt.fusion != TRANSPORT:
        return
    if not (prompt.shared and prompt.private):
        raise ConfigError(
            "prompt.fusion=transport matches patches to two prompts: set prompt.shared and "
            "prompt.private to true, or choose another fusion"
        )
    if loss.lambda_cmfac > 0:
        raise ConfigError(
            f"loss.lambda_cmfac is {loss.lambda_cmfac:g} but prompt.fusion=transport has no fused "
            "text features to align: set it to 0"
        )


def _check_offset(prompt: PromptConfig) -> None:
    if prompt.private_rank is None:
        return
    if not (prompt.shared and prompt.private):
        raise ConfigError(
            "prompt.private_rank makes the private prompt of the shared one: set prompt.shared "
            "and prompt.private to true, or private_rank to null"
        )
    if prompt.private_rank > prompt.n_ctx:
        raise ConfigError(
            f"prompt.private_rank is {prompt.private_rank} but prompt.n_ctx is {prompt.n_ctx}: no "
            "offset of so few vectors has a higher rank"
        )
