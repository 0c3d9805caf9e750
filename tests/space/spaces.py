"""The Gradio apps, with the signatures of public FLUX Spaces. What a prompt begins with decides how a call goes."""

import base64
import io
import threading
import time
from functools import partial
from typing import NamedTuple

import gradio as gr
from PIL import Image
from tqdm import tqdm

from tests.space.painting import edit, paint

MAX_SEED = 2**31 - 1


class Call(NamedTuple):
    """One run of an app's function."""

    app: str
    prompt: str
    seed: int
    randomize_seed: bool


class Log:
    """What happened, and the gate at which slow calls wait; tests read and open it over HTTP."""

    def __init__(self):
        self.calls = []
        self.cancels = []
        self.closed = []
        self.visits = []
        self.gate = threading.Semaphore(0)
        self.mood = ""
        """Where it is set, it decides instead of the prompt."""

    def run(self, app, prompt, seed, randomize_seed, steps=1):
        """Behave as the prompt says; return when the picture may be painted."""
        self.calls.append(Call(app, prompt, int(seed), randomize_seed))
        mood, _, text = (self.mood or prompt).partition(":")
        if mood == "error":
            raise gr.Error(text)
        if mood == "crash":
            raise RuntimeError("something inside")
        pass_gate = self.gate_of_this_test()
        if mood == "wait":
            pass_gate()
        for _ in tqdm(range(int(steps))):
            if mood == "slow":
                pass_gate()

    def gate_of_this_test(self):
        """Return a wait for the next ``advance``; once the test is over, it is one no more."""
        return partial(self.gate.acquire, timeout=60)

    def reset(self):
        for _ in range(100):  # whoever still waits may go
            self.gate.release()
        time.sleep(0)
        self.gate = threading.Semaphore(0)
        self.mood = ""
        for kept in (self.calls, self.cancels, self.closed, self.visits):
            kept.clear()


def slider(label, low, high, value, step=1):
    return gr.Slider(label=label, minimum=low, maximum=high, value=value, step=step)


def seed_inputs():
    return [slider("Seed", 0, MAX_SEED, 0), gr.Checkbox(label="Randomize seed", value=True)]


def size_inputs():
    return [slider("Width", 64, 2048, 1024, 32), slider("Height", 64, 2048, 1024, 32)]


def serve(fn, make_inputs, *, max_size=None):
    """A Blocks app like those on the Hub: one button, one function, a queue that runs one call at a time."""
    with gr.Blocks() as app:
        inputs = [gr.Textbox(label="Prompt"), *make_inputs()]
        outputs = [gr.Image(label="Result"), gr.Number(label="Seed used", precision=0)]
        gr.Button("Run").click(fn, inputs, outputs, api_name="infer")
    return app.queue(max_size=max_size)


def schnell(log, name="schnell", max_size=None):
    def infer(prompt, seed=0, randomize_seed=True, width=1024, height=1024, num_inference_steps=4,
              progress=gr.Progress(track_tqdm=True)):  # fmt: skip
        log.run(name, prompt, seed, randomize_seed, num_inference_steps)
        return paint(prompt, seed, width, height, num_inference_steps=num_inference_steps), seed

    def inputs():
        return [*seed_inputs(), *size_inputs(), slider("Steps", 1, 50, 4)]

    return serve(infer, inputs, max_size=max_size)


def dev(log):
    def infer(prompt, seed=0, randomize_seed=True, width=1024, height=1024, guidance_scale=3.5,
              num_inference_steps=28, progress=gr.Progress(track_tqdm=True)):  # fmt: skip
        """Like the public Space: every step's preview is an output."""
        log.run("dev", prompt, seed, randomize_seed, 1)
        pass_gate = log.gate_of_this_test()
        image = paint(
            prompt, seed, width, height, guidance_scale=guidance_scale, num_inference_steps=num_inference_steps
        )
        try:
            for step in range(int(num_inference_steps)):
                if prompt.startswith("preview"):
                    pass_gate()
                yield Image.new("RGB", image.size, (step, step, step)), seed
            yield image, seed
        except GeneratorExit:
            log.closed.append(prompt)
            raise

    def inputs():
        guidance = slider("Guidance Scale", 1, 15, 3.5, 0.1)
        return [*seed_inputs(), *size_inputs(), guidance, slider("Steps", 1, 50, 28)]

    return serve(infer, inputs)


def kontext(log):
    def infer(input_image, prompt, seed=0, randomize_seed=False, guidance_scale=2.5, steps=28,
              progress=gr.Progress(track_tqdm=True)):  # fmt: skip
        log.run("kontext", prompt, seed, randomize_seed)
        return edit(input_image, prompt, seed), seed, gr.update(visible=True)

    with gr.Blocks() as app:
        inputs = [gr.Image(label="Upload the image for editing", type="pil"), gr.Text(label="Prompt")]
        inputs += [*seed_inputs(), slider("Guidance Scale", 1, 10, 2.5, 0.1), slider("Steps", 1, 30, 28)]
        reuse = gr.Button("Reuse this image", visible=False)
        outputs = [gr.Image(label="Result"), inputs[2], reuse]
        gr.Button("Run").click(infer, inputs, outputs, api_name="infer")
    return app.queue()


def fill(log):
    def infer(image, mask_image, prompt, seed=0, randomize_seed=False, width=1024, height=1024, guidance_scale=30,
              steps=50, progress=gr.Progress(track_tqdm=True)):  # fmt: skip
        """Like the pipeline behind the public Space: sides off its grid are cut down to it."""
        log.run("fill", prompt, seed, randomize_seed)
        return paint(prompt, seed, width // 16 * 16, height // 16 * 16), seed

    with gr.Blocks() as app:
        pictures = [gr.Image(label="Image", type="pil"), gr.Image(label="Mask", type="pil", image_mode="L")]
        inputs = [*pictures, gr.Text(label="Prompt"), *seed_inputs(), *size_inputs()]
        inputs += [slider("Guidance Scale", 1, 50, 30, 0.5), slider("Steps", 1, 50, 50)]
        gr.Button("Run").click(infer, inputs, [gr.Image(label="Result"), inputs[3]], api_name="infer")
    return app.queue()


def encoded(image, kind="PNG"):
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return base64.b64encode(buffer.getvalue()).decode()


def shapes():
    """One endpoint per form in which Spaces return pictures; none is called /infer."""
    size = (64, 64)

    def add(name, make, *make_outputs):
        inputs, outputs = (
            [gr.Textbox(label="Prompt"), slider("Seed", 0, MAX_SEED, 0)],
            [make() for make in make_outputs],
        )
        gr.Button(name).click(lambda prompt, seed=0: make(paint(prompt, seed, *size)), inputs, outputs, api_name=name)

    image, text, json = partial(gr.Image, label="Result"), partial(gr.Textbox, label="Result"), partial(gr.JSON)
    with gr.Blocks() as app:
        add("png", lambda made: made, partial(image, format="png"))
        add("jpeg", lambda made: made, partial(image, format="jpeg"))
        add("webp", lambda made: made, partial(image, format="webp"))
        add("transparent", lambda made: made.convert("RGBA"), partial(image, format="png"))
        add("gallery", lambda made: [(made, "a caption"), made.rotate(90)], gr.Gallery)
        add("before_after", lambda made: (Image.new("RGB", size, "white"), made), gr.ImageSlider)
        add("data_url", lambda made: f"data:image/png;base64,{encoded(made)}", text)
        add("base64", lambda made: encoded(made, "JPEG"), text)
        add("base64_in_json", lambda made: {"data": [{"b64_json": encoded(made)}]}, json)
        add("nothing", lambda made: None, image)
        add("words", lambda made: "here is your picture", text)
        add("foreign", lambda made: {"url": "http://192.0.2.1/picture.png"}, json)
        add("lost", lambda made: {"path": "/nowhere/picture.png"}, json)
        add("garbage", lambda made: "data:image/png;base64,AAAA", text)
        add("black", lambda made: Image.new("RGB", size), image)
        add("wayward", lambda made: (made.resize((96, 64)), 4711), image, partial(gr.Number, label="Seed"))
        add("flagged", lambda made: (made, True), image, partial(gr.Checkbox, label="nsfw"))
        gr.Button("seedless").click(lambda prompt: paint(prompt, 0, *size), text(), image(), api_name="seedless")
        gr.Button("needy").click(lambda prompt, lora: None, [text(), text()], image(), api_name="needy")
    return app.queue()
