import { Validator } from "@cfworker/json-schema";
import Form, { getDefaultRegistry } from "@rjsf/core";
import {
  createErrorHandler,
  type ErrorSchema,
  getDefaultFormState,
  type IconButtonProps,
  type RJSFSchema,
  type RJSFValidationError,
  toErrorSchema,
  unwrapErrorHandler,
  type ValidatorType,
  validationDataMerge,
} from "@rjsf/utils";
import type { ReactNode } from "react";
import type { Json, Schema } from "../data/types.ts";
import * as icons from "./icons.tsx";

/** Checks with an interpreter of JSON Schema, because the page's policy allows no compiled code. */
function errorsOf(
  schema: RJSFSchema | boolean,
  value: unknown,
  root?: unknown,
): RJSFValidationError[] {
  const whole = typeof schema === "object" && root ? { ...(root as object), ...schema } : schema;
  const result = new Validator(whole as Schema, "2020-12", false).validate(value);
  return result.errors
    .filter((each) => !["properties", "items", "allOf", "if"].includes(each.keyword))
    .map((each) => {
      const path = each.instanceLocation.replace(/^#/, "").replaceAll("/", ".");
      const missing = /"([^"]+)"/.exec(each.keyword === "required" ? each.error : "")?.[1];
      const message = missing ? "is required" : each.error.replace(/\.$/, "");
      return {
        name: each.keyword,
        message,
        property: missing ? `${path}.${missing}` : path,
        stack: message,
      };
    });
}

const validator: ValidatorType = {
  validateFormData(value, schema, customValidate, transformErrors, uiSchema) {
    let errors = errorsOf(schema, value);
    if (transformErrors) errors = transformErrors(errors, uiSchema);
    const found = { errors, errorSchema: toErrorSchema(errors) };
    if (!customValidate) return found;
    const whole = getDefaultFormState(validator, schema, value, schema, true);
    const handler = customValidate(whole, createErrorHandler(whole), uiSchema);
    return validationDataMerge(found, unwrapErrorHandler(handler));
  },
  isValid: (schema, value, root) => errorsOf(schema, value, root).length === 0,
  rawValidation: (schema, value) => ({ errors: errorsOf(schema, value) as never[] }),
  reset: () => undefined,
};

function IconButton(props: IconButtonProps & { label: string; children: ReactNode }) {
  const { label, children, onClick, disabled } = props;
  return (
    <button
      type="button"
      className="btn icon"
      aria-label={label}
      title={label}
      onClick={onClick}
      disabled={disabled}
    >
      {children}
    </button>
  );
}

const AddButton = (props: IconButtonProps) => (
  <IconButton {...props} label="Add an item">
    <icons.Plus />
  </IconButton>
);
const RemoveButton = (props: IconButtonProps) => (
  <IconButton {...props} label="Remove the item">
    <icons.Bin />
  </IconButton>
);
const MoveUpButton = (props: IconButtonProps) => (
  <IconButton {...props} label="Move up">
    ↑
  </IconButton>
);
const MoveDownButton = (props: IconButtonProps) => (
  <IconButton {...props} label="Move down">
    ↓
  </IconButton>
);
const CopyButton = (props: IconButtonProps) => (
  <IconButton {...props} label="Copy the item">
    <icons.Copy />
  </IconButton>
);

const templates = {
  ButtonTemplates: {
    ...getDefaultRegistry().templates.ButtonTemplates,
    AddButton,
    RemoveButton,
    MoveUpButton,
    MoveDownButton,
    CopyButton,
  },
};

const UI = { "ui:submitButtonOptions": { norender: true } };

interface Props {
  id: string;
  schema: Schema;
  value: Json;
  onChange: (value: Json) => void;
  onSubmit: (value: Json) => void;
  /** What the API refused, by JSON Pointers into the value. */
  refused?: { pointer: string; detail: string }[];
  children: ReactNode;
}

/** A form that asks for a value of a JSON Schema. */
export default function SchemaForm(props: Props) {
  const { id, schema, value, onChange, onSubmit, refused = [], children } = props;
  return (
    <Form
      idPrefix={id}
      schema={schema as RJSFSchema}
      uiSchema={UI}
      formData={value}
      validator={validator}
      templates={templates}
      extraErrors={extraErrors(refused)}
      showErrorList={false}
      noHtml5Validate
      onChange={({ formData }) => onChange(formData as Json)}
      onSubmit={({ formData }) => onSubmit((formData ?? {}) as Json)}
    >
      {children}
    </Form>
  );
}

function extraErrors(refused: { pointer: string; detail: string }[]): ErrorSchema {
  return toErrorSchema(
    refused.map(({ pointer, detail }) => ({
      property: pointer.replaceAll("/", "."),
      message: detail,
      stack: detail,
    })),
  );
}
