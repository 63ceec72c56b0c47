"""What an operator sets, read once at the start from the environment; a name that means nothing is an error."""

import base64
import difflib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from shared.errors import BadSetting

PREFIX = "ZHIYIN_PLATFORM_"


class Settings(BaseSettings):
    """Every field is an environment variable of its name in capitals behind ZHIYIN_PLATFORM_."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="forbid", frozen=True)

    database_url: Annotated[
        str, Field(description="SQLAlchemy URL: sqlite:///file or postgresql+psycopg://user:password@host/name")
    ] = "sqlite:///platform.db"
    secret_key: Annotated[
        SecretStr, Field(min_length=32, description="at least 32 characters; signs access tokens and cursors")
    ]
    public_url: Annotated[str, Field(description="the address that learners see, without a slash at the end")] = (
        "http://127.0.0.1:8000"
    )
    data_folder: Annotated[Path, Field(description="where model files and snapshots are kept")] = Path("platform-data")
    erasure_journal: Annotated[
        Path, Field(description="ids of erased people, which a restore erases again; outside of the data folder")
    ] = Path("platform-erasures.txt")
    federation_file: Annotated[
        Path | None, Field(description="what invitations say of the federation; written by `zhiyin server describe`")
    ] = None
    webhook_secret: Annotated[
        SecretStr,
        Field(description="shared with the payment provider: whsec_ and base64; while it changes, two with a blank"),
    ] = SecretStr("")
    provider_url: Annotated[
        str, Field(pattern="^https?://", description="the payment provider's address, without a slash at the end")
    ] = "http://127.0.0.1:8400"
    provider_key: Annotated[SecretStr, Field(description="what the payment provider knows this service by")] = (
        SecretStr("")
    )
    provider_timeout_seconds: Annotated[
        float, Field(gt=0, le=60, description="how long an answer of the payment provider is waited for")
    ] = 10.0
    order_minutes: Annotated[int, Field(ge=1, le=10_080, description="how long an order waits to be paid")] = 30
    platform_fee_basis_points: Annotated[
        int, Field(ge=0, le=10_000, description="the platform's part of each sale, in hundredths of a percent")
    ] = 1_000
    access_token_seconds: Annotated[int, Field(ge=60, le=86_400, description="life of an access token")] = 900
    refresh_token_days: Annotated[int, Field(ge=1, le=365, description="life of a refresh token")] = 30
    idempotency_days: Annotated[
        int, Field(ge=1, le=365, description="how long the answer to an Idempotency-Key is kept and given again")
    ] = 7
    login_history_days: Annotated[
        int, Field(ge=1, le=365, description="how long log-ins that ended and refresh tokens that expired are kept")
    ] = 30
    webhook_receipt_days: Annotated[
        int, Field(ge=4, le=3_650, description="how long the ids of the payment provider's messages are kept")
    ] = 30
    sweep_seconds: Annotated[
        int, Field(ge=0, le=86_400, description="how often what is over is swept in the background; 0 for never")
    ] = 300
    max_body_bytes: Annotated[int, Field(ge=1_000, description="largest body of a request")] = 1_000_000
    max_model_bytes: Annotated[int, Field(ge=1_000, description="largest tensor file of a posted model")] = 64_000_000
    model_max_epsilon: Annotated[
        float, Field(gt=0, le=1_000, description="largest epsilon that a model's privacy statement may have")
    ] = 8.0
    model_max_delta: Annotated[
        float, Field(gt=0, lt=0.01, description="largest delta of such a statement; totals are stated at it")
    ] = 1e-5
    model_max_loss: Annotated[
        float, Field(ge=0, le=1, description="how much lower than the live model's NDCG@10 a new model's may be")
    ] = 0.002
    recommender: Annotated[
        str, Field(pattern="^[a-z0-9][a-z0-9-]{0,63}$", description="name of the model that recommendations come from")
    ] = "recommender"
    ready_needs_model: Annotated[
        bool, Field(description="whether /readyz answers 503 while no model of that name is loaded")
    ] = False
    logins_a_minute: Annotated[int, Field(ge=1, description="attempts to log in or register from one address")] = 20
    writes_a_minute: Annotated[int, Field(ge=1, description="requests other than GET from one caller")] = 300
    min_ratings_shown: Annotated[
        int, Field(ge=1, le=1000, description="fewest ratings of a product of which number and average are shown")
    ] = 5
    rate_limit_storage: Annotated[
        str, Field(description="where counts are kept, a URI of the library `limits`; memory:// counts per process")
    ] = "memory://"
    log_level: Annotated[str, Field(pattern="^(debug|info|warning|error)$", description="least severity logged")] = (
        "info"
    )

    @field_validator("erasure_journal")
    @classmethod
    def _outlives_a_restore(cls, value: Path, info: ValidationInfo) -> Path:
        folder = info.data.get("data_folder")
        if folder is not None and value.resolve().is_relative_to(folder.resolve()):
            raise ValueError("it must be outside of the data folder, which a restore takes back")
        return value

    @field_validator("webhook_secret")
    @classmethod
    def _is_a_webhook_secret(cls, value: SecretStr) -> SecretStr:
        for secret in value.get_secret_value().split():
            try:
                long_enough = len(base64.b64decode(secret.removeprefix("whsec_"), validate=True)) >= 16
            except ValueError:
                long_enough = False
            if not long_enough or not secret.startswith("whsec_"):
                raise ValueError("each secret is whsec_ and at least 16 bytes in base64")
        return value


def load_settings(environment: Mapping[str, str] | None = None, **given: Any) -> Settings:
    """Settings from the environment, `given` ones first. Raises BadSetting naming the variable and the mend."""
    environment = os.environ if environment is None else environment
    known = {f"{PREFIX}{name.upper()}" for name in Settings.model_fields}
    for name in environment:
        if name.startswith(PREFIX) and name.upper() not in known:
            close = difflib.get_close_matches(name.upper(), known, n=1)
            raise BadSetting(f"{name} is no setting" + "".join(f"; did you mean {match}?" for match in close))
    values = {
        field: environment[f"{PREFIX}{field.upper()}"]
        for field in Settings.model_fields
        if f"{PREFIX}{field.upper()}" in environment
    }
    try:
        return Settings(**{**values, **given})
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        name = f"{PREFIX}{str(first['loc'][0]).upper()}" if first["loc"] else "settings"
        if first["type"] == "missing":
            meaning = Settings.model_fields[str(first["loc"][0])].description
            raise BadSetting(f"{name} is not set: {meaning}") from None
        raise BadSetting(f"{name}: {first['msg']}") from None
