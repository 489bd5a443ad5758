# The official image of PostgreSQL with the extension: docker build --build-arg PG=17 -t postgres-sequin .
ARG PG=15

FROM postgres:${PG}-bookworm AS build
ARG PG
RUN apt-get update \
 && apt-get install -y --no-install-recommends ca-certificates curl gcc libc6-dev make clang libclang-dev postgresql-server-dev-${PG}
RUN curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y --profile minimal
COPY . /src
RUN PATH=/root/.cargo/bin:$PATH make -C /src install PG_CONFIG=/usr/lib/postgresql/${PG}/bin/pg_config DESTDIR=/out

FROM postgres:${PG}-bookworm
COPY --from=build /out/ /
