# The main job in a container:
#   docker build -t cascade-threshold .
#   docker run --rm cascade-threshold                                        the bundled example
#   docker run --rm -v "$PWD:/work" cascade-threshold evaluate my_task       a task of yours; replies and reports stay in the folder
# tests/test_wheel.py runs these lines in a clean folder; nobody has built the image there.
FROM python:3.12-slim
WORKDIR /opt/cascade-threshold
COPY requirements/run.txt requirements/run.txt
RUN python -m pip install --quiet --no-cache-dir --require-hashes -r requirements/run.txt
COPY . .
RUN python -m pip install --quiet --no-cache-dir --no-deps --no-build-isolation .
WORKDIR /work
RUN useradd --create-home cascade && chown cascade /work
USER cascade
RUN cascade-threshold demo .
ENTRYPOINT ["cascade-threshold"]
CMD ["evaluate", "email_triage"]
