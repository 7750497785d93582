# Not built where it was written (there was no Docker): a start, not a promise.
FROM python:3.12-slim AS build
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY speakerguard speakerguard
COPY advgan advgan
COPY checkpoints checkpoints
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM python:3.12-slim
COPY --from=build /wheels /wheels
RUN pip install --no-cache-dir "$(echo /wheels/*.whl)[formats]" && rm -r /wheels \
    && useradd --create-home --uid 10001 guard && install -d -m 700 -o guard -g guard /voices
USER guard
RUN speakerguard models --fetch
WORKDIR /data
ENV SPEAKERGUARD_STORE=/voices/profiles.db
VOLUME /voices
# docker run --rm -v voices:/voices -v "$PWD:/data:ro" speakerguard verify alice probe.wav
ENTRYPOINT ["speakerguard"]
CMD ["doctor"]
