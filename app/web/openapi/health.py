"""The addresses of orchestrators and of Prometheus."""

from __future__ import annotations

from typing import Any

from app.telemetry.metrics import CONTENT_TYPE

_CHECK = {
    "type": "object",
    "required": ["name", "ok", "degraded", "detail"],
    "properties": {
        "name": {"type": "string"},
        "ok": {"type": "boolean"},
        "degraded": {"type": "boolean"},
        "detail": {"type": "string"},
    },
}
READINESS_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["status", "checks"],
    "properties": {
        "status": {"type": "string", "enum": ["ready", "degraded", "unready"]},
        "checks": {"type": "array", "items": _CHECK},
    },
}


def health_paths() -> dict[str, Any]:
    return {
        "/livez": {
            "get": {
                **_operation("live", "Whether the process answers; depends on nothing else"),
                "responses": {
                    "200": {
                        "description": "Alive",
                        "content": {
                            "application/json": {
                                "schema": {
                                    "type": "object",
                                    "properties": {"status": {"const": "alive"}},
                                },
                                "example": {"status": "alive"},
                            }
                        },
                    },
                    "405": _only_read(),
                },
            }
        },
        "/readyz": {
            "get": {
                **_operation("ready", "Whether requests can be answered"),
                "responses": {
                    "200": _readiness(
                        "Ready; `degraded` where a newer configuration did not load",
                        "degraded",
                        {
                            "name": "configuration",
                            "ok": True,
                            "degraded": True,
                            "detail": "the last good configuration is in use",
                        },
                    ),
                    "503": _readiness(
                        "Not ready",
                        "unready",
                        {
                            "name": "audit",
                            "ok": False,
                            "degraded": False,
                            "detail": "the disk is full",
                        },
                    ),
                    "405": _only_read(),
                },
            }
        },
        "/metrics": {
            "get": {
                **_operation("metrics", "Metrics in Prometheus' text format"),
                "responses": {
                    "200": {
                        "description": "See docs/metrics.md",
                        "content": {
                            CONTENT_TYPE: {
                                "schema": {"type": "string"},
                                "example": 'broker_refusals_total{code="not-granted"} 3.0\n',
                            }
                        },
                    },
                    "405": _only_read(),
                },
            }
        },
    }


def _operation(name: str, summary: str) -> dict[str, Any]:
    return {
        "operationId": f"health_{name}",
        "tags": ["health"],
        "summary": summary,
        "description": "Answered without a credential, and not on the record.",
        "security": [],
    }


def _readiness(description: str, status: str, check: dict[str, Any]) -> dict[str, Any]:
    return {
        "description": description,
        "content": {
            "application/json": {
                "schema": {"$ref": "#/components/schemas/Readiness"},
                "example": {"status": status, "checks": [check]},
            }
        },
    }


def _only_read() -> dict[str, Any]:
    return {
        "description": "Only GET and HEAD",
        "headers": {"Allow": {"schema": {"type": "string"}, "example": "GET, HEAD"}},
        "content": {
            "application/json": {
                "schema": {"type": "object", "properties": {"status": {"type": "string"}}},
                "example": {"status": "method not allowed"},
            }
        },
    }
