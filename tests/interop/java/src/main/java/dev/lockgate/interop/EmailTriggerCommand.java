package dev.lockgate.interop;

import com.fasterxml.jackson.annotation.JsonProperty;
import com.fasterxml.jackson.databind.JsonNode;

/** The command as docs/consumers.md has it. Jackson is told to fail on fields that are missing or unknown. */
record EmailTriggerCommand(
    @JsonProperty(required = true) String recipientEmail,
    @JsonProperty(required = true) String templateId,
    @JsonProperty(required = true) JsonNode templateContext,
    @JsonProperty(required = true) String locale,
    @JsonProperty(required = true) String correlationId,
    Long userId) {}
