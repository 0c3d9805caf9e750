"""POST /api/generate, /api/edit, /api/fill."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Form, Response, UploadFile
from pydantic import Field

from api.deps import ServicesDep
from api.errors import error_responses
from api.routes.answer import IdempotencyKeyDep, WishDep, submit_and_answer
from api.routes.takes import FORM, JSON, Takes
from api.services.submission import Submission
from shared.domain.params import InputRole, JobKind
from shared.domain.route import Routing
from shared.schemas import JobRead, JobWithImage, TextGenerateRequest, UploadRequest

router = APIRouter(prefix="/api", tags=["submit"])

_ANSWERS: Final[dict[int | str, dict[str, Any]]] = {
    200: {"model": JobWithImage | JobRead, "description": "the job ended within `wait`"},
    202: {"model": JobRead, "description": "accepted; poll `Location`"},
    **error_responses(409, 413, 415, 422, 429, 500, 502, 503, 504, 507),
}


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


@router.post(
    "/generate",
    status_code=202,
    responses=_ANSWERS,
    response_model=JobWithImage | JobRead,
    dependencies=[Depends(Takes(JSON))],
)
async def generate(
    body: TextGenerateRequest,
    services: ServicesDep,
    wish: WishDep,
    response: Response,
    idempotency_key: IdempotencyKeyDep = None,
) -> JobRead | JobWithImage:
    """Paint a picture from words."""
    submission = Submission(
        JobKind.GENERATE, body.model, body.asked(), (), body.schedule(), idempotency_key, body.routing()
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
