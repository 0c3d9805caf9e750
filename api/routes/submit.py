"""POST /api/generate, /api/edit, /api/fill."""

from __future__ import annotations

from collections import Counter
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Form, Request, Response, UploadFile
from pydantic import Field

from api.deps import ServicesDep
from api.errors import MAX_FIELD_CHARACTERS, error_responses
from api.routes.answer import IdempotencyKeyDep, WishDep, submit_and_answer
from api.services.submission import Submission
from shared.domain.errors import RequestError, UnsupportedMediaType
from shared.domain.params import InputRole, JobKind
from shared.schemas import JobRead, JobWithImage, TextGenerateRequest, UploadRequest

router = APIRouter(prefix="/api", tags=["submit"])

_JSON: Final = "application/json"
_FORM: Final = "multipart/form-data"

_ANSWERS: Final[dict[int | str, dict[str, Any]]] = {
    200: {"model": JobWithImage | JobRead, "description": "the job ended within `wait`"},
    202: {"model": JobRead, "description": "accepted; poll `Location`"},
    **error_responses(409, 413, 415, 422, 429, 500, 503, 507),
}


class EditRequest(UploadRequest):
    """Image and instruction to edited image."""

    file: UploadFile = Field(description="the picture to edit: PNG, JPEG or WebP")


class FillRequest(UploadRequest):
    """Image and mask to repainted image."""

    image: UploadFile = Field(description="the picture: PNG, JPEG or WebP")
    mask: UploadFile = Field(description="same size; white is repainted, black is kept")


class Takes:
    """A dependency that refuses bodies of another content type, and forms that give a field twice."""

    def __init__(self, media_type: str) -> None:
        self._media_type = media_type

    async def __call__(self, request: Request) -> None:
        """Check one request; its body is read already.

        Raises:
          UnsupportedMediaType: it is of another type.
          RequestError: it is a form and gives a field twice.
        """
        sent = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if sent != self._media_type:
            raise UnsupportedMediaType(
                f"Content-Type is {sent or 'missing'}; this route takes {self._media_type}.",
                field="Content-Type",
                limit=self._media_type,
            )
        if self._media_type == _FORM:
            times = Counter(name for name, _ in (await request.form()).multi_items())
            if repeated := next((name for name in times if times[name] > 1), None):
                field = repeated[:MAX_FIELD_CHARACTERS]
                raise RequestError(f"{field}: given {times[repeated]} times; once is enough.", field=field, limit=1)


@router.post(
    "/generate",
    status_code=202,
    responses=_ANSWERS,
    response_model=JobWithImage | JobRead,
    dependencies=[Depends(Takes(_JSON))],
)
async def generate(
    body: TextGenerateRequest,
    services: ServicesDep,
    wish: WishDep,
    response: Response,
    idempotency_key: IdempotencyKeyDep = None,
) -> JobRead | JobWithImage:
    """Paint a picture from words."""
    submission = Submission(JobKind.GENERATE, body.model, body.asked(), (), body.schedule(), idempotency_key)
    return await submit_and_answer(services, submission, wish, response)


@router.post(
    "/edit",
    status_code=202,
    responses=_ANSWERS,
    response_model=JobWithImage | JobRead,
    dependencies=[Depends(Takes(_FORM))],
)
async def edit(
    form: Annotated[EditRequest, Form(media_type=_FORM)],
    services: ServicesDep,
    wish: WishDep,
    response: Response,
    idempotency_key: IdempotencyKeyDep = None,
) -> JobRead | JobWithImage:
    """Change a picture by an instruction."""
    pictures = [await services.uploads.read(form.file.file, InputRole.IMAGE, "file")]
    submission = Submission(JobKind.EDIT, form.model, form.asked(), pictures, form.schedule(), idempotency_key)
    return await submit_and_answer(services, submission, wish, response)


@router.post(
    "/fill",
    status_code=202,
    responses=_ANSWERS,
    response_model=JobWithImage | JobRead,
    dependencies=[Depends(Takes(_FORM))],
)
async def fill(
    form: Annotated[FillRequest, Form(media_type=_FORM)],
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
    submission = Submission(JobKind.FILL, form.model, form.asked(), pictures, form.schedule(), idempotency_key)
    return await submit_and_answer(services, submission, wish, response)
