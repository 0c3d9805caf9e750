"""POST /api/generate, /api/edit, /api/fill."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Form, Response, UploadFile
from pydantic import Field

from api.deps import ServicesDep
from api.errors import error_responses
from api.routes.answer import IdempotencyKeyDep, WishDep, submit_and_answer
from api.routes.takes import FORM, JSON, FormRoute, Takes
from api.services.submission import Submission
from api.services.uploads import Picture
from shared.domain.params import InputRole, JobKind
from shared.domain.route import Routing
from shared.schemas.jobs import JobRead, JobWithImage
from shared.schemas.requests import ConditioningFields, TextGenerateRequest, UploadRequest

router = APIRouter(prefix="/api", tags=["submit"])
form_router = APIRouter(prefix="/api", route_class=FormRoute, include_in_schema=False)
"""The form of ``POST /api/generate``; goes before ``router``, whose route documents both."""

_ANSWERS: Final[dict[int | str, dict[str, Any]]] = {
    200: {"model": JobWithImage | JobRead, "description": "the job ended within `wait`"},
    202: {"model": JobRead, "description": "accepted; poll `Location`"},
    **error_responses(409, 413, 415, 422, 429, 500, 502, 503, 504, 507),
}


class GenerateForm(ConditioningFields, UploadRequest):
    """Text to image with pictures: what to start from, what to keep."""

    image: UploadFile | None = Field(default=None, description="start from this instead of noise: PNG, JPEG or WebP")
    reference: UploadFile | None = Field(default=None, description="keep this character or style: PNG, JPEG or WebP")


class EditRequest(UploadRequest):
    """Image and instruction to edited image."""

    file: UploadFile = Field(description="the picture to edit: PNG, JPEG or WebP")
    enhance_instruction: bool = Field(
        default=False, description="let a language model rewrite the instruction; `enhance` alone leaves it as it is"
    )

    def routing(self) -> Routing:
        """Return the domain's form of it."""
        return replace(super().routing(), enhance_instruction=self.enhance_instruction)


class FillRequest(UploadRequest):
    """Image and mask to repainted image."""

    image: UploadFile = Field(description="the picture: PNG, JPEG or WebP")
    mask: UploadFile = Field(description="same size; white is repainted, black is kept")


_FORM_SCHEMA: Final = GenerateForm.model_json_schema(ref_template="#/components/schemas/{model}")


@router.post(
    "/generate",
    status_code=202,
    responses=_ANSWERS,
    response_model=JobWithImage | JobRead,
    dependencies=[Depends(Takes(JSON, FORM))],
    openapi_extra={
        "requestBody": {
            "content": {FORM: {"schema": {name: value for name, value in _FORM_SCHEMA.items() if name != "$defs"}}}
        }
    },
)
async def generate(
    body: TextGenerateRequest,
    services: ServicesDep,
    wish: WishDep,
    response: Response,
    idempotency_key: IdempotencyKeyDep = None,
) -> JobRead | JobWithImage:
    """Paint a picture from words; send a form to start from a picture (`image`) or to follow one (`reference`)."""
    submission = Submission(
        JobKind.GENERATE, body.model, body.asked(), (), body.schedule(), idempotency_key, body.routing()
    )
    return await submit_and_answer(services, submission, wish, response)


@form_router.post(
    "/generate", status_code=202, response_model=JobWithImage | JobRead, dependencies=[Depends(Takes(FORM))]
)
async def generate_from_form(
    form: Annotated[GenerateForm, Form(media_type=FORM)],
    services: ServicesDep,
    wish: WishDep,
    response: Response,
    idempotency_key: IdempotencyKeyDep = None,
) -> JobRead | JobWithImage:
    """Paint a picture from words and pictures."""
    files = ((InputRole.IMAGE, form.image), (InputRole.REFERENCE, form.reference))
    pictures: list[Picture] = [
        await services.uploads.read(file.file, role, role.value) for role, file in files if file is not None
    ]
    submission = Submission(
        JobKind.GENERATE, form.model, form.asked(), pictures, form.schedule(), idempotency_key, form.routing()
    )
    return await submit_and_answer(services, submission, wish, response)


@router.post(
    "/edit",
    status_code=202,
    responses=_ANSWERS,
    response_model=JobWithImage | JobRead,
    dependencies=[Depends(Takes(FORM))],
)
async def edit(
    form: Annotated[EditRequest, Form(media_type=FORM)],
    services: ServicesDep,
    wish: WishDep,
    response: Response,
    idempotency_key: IdempotencyKeyDep = None,
) -> JobRead | JobWithImage:
    """Change a picture by an instruction."""
    pictures = [await services.uploads.read(form.file.file, InputRole.IMAGE, "file")]
    submission = Submission(
        JobKind.EDIT, form.model, form.asked(), pictures, form.schedule(), idempotency_key, form.routing()
    )
    return await submit_and_answer(services, submission, wish, response)


@router.post(
    "/fill",
    status_code=202,
    responses=_ANSWERS,
    response_model=JobWithImage | JobRead,
    dependencies=[Depends(Takes(FORM))],
)
async def fill(
    form: Annotated[FillRequest, Form(media_type=FORM)],
    services: ServicesDep,
    wish: WishDep,
    response: Response,
    idempotency_key: IdempotencyKeyDep = None,
) -> JobRead | JobWithImage:
    """Repaint the white part of a mask."""
    pictures = [
        await services.uploads.read(form.image.file, InputRole.IMAGE, "image"),
        await services.uploads.read(form.mask.file, InputRole.MASK, "mask"),
    ]
    submission = Submission(
        JobKind.FILL, form.model, form.asked(), pictures, form.schedule(), idempotency_key, form.routing()
    )
    return await submit_and_answer(services, submission, wish, response)
