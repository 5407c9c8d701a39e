/** A form from a JSON Schema: one field for each property. What has no simple field is written as JSON. */
import { useId } from "preact/hooks";
import type { Field } from "../model/schema_fields";

export interface SchemaFormProps {
  fields: readonly Field[];
  /** The text of each field, as the reader wrote it. */
  texts: Readonly<Record<string, string>>;
  faults: Readonly<Record<string, string>>;
  onChange: (texts: Record<string, string>) => void;
}

export function SchemaForm({ fields, texts, faults, onChange }: SchemaFormProps) {
  return (
    <div class="schema-form">
      {fields.map((field) => (
        <FormField key={field.name} field={field} text={texts[field.name] ?? ""} fault={faults[field.name]} onText={(text) => onChange({ ...texts, [field.name]: text })} />
      ))}
    </div>
  );
}

function FormField({ field, text, fault, onText }: { field: Field; text: string; fault: string | undefined; onText: (text: string) => void }) {
  const id = useId();
  const shared = {
    id,
    "aria-describedby": `${id}-help`,
    "aria-invalid": fault !== undefined,
    required: field.isRequired,
    onInput: (event: { currentTarget: { value: string } }) => onText(event.currentTarget.value),
  };
  return (
    <div class={`field${fault ? " has-fault" : ""}`}>
      <label for={id}>{field.name}{field.isRequired && <span class="required"> required</span>}</label>
      <Control field={field} text={text} shared={shared} />
      <p class="field-help" id={`${id}-help`}>
        {fault && <span class="fault">{fault} </span>}
        {field.description}
      </p>
    </div>
  );
}

function Control({ field, text, shared }: { field: Field; text: string; shared: Record<string, unknown> }) {
  if (field.kind === "choice" || field.kind === "boolean") {
    const choices = field.kind === "boolean" ? ["true", "false"] : field.choices;
    return (
      <select {...shared} value={text}>
        <option value="">{field.placeholder ? `(${field.placeholder})` : ""}</option>
        {choices.map((choice) => <option key={choice} value={choice}>{choice}</option>)}
      </select>
    );
  }
  if (field.kind === "json" || field.isLong) {
    return <textarea {...shared} class={field.kind === "json" ? "code" : ""} rows={field.isLong ? 4 : 3} spellcheck={false} placeholder={field.placeholder} value={text} />;
  }
  const isNumber = field.kind === "number" || field.kind === "integer";
  const input = { ...shared, autocomplete: "off", placeholder: field.placeholder, value: text };
  return field.isSecret ? <input {...input} type="password" /> : <input {...input} type="text" inputMode={isNumber ? "decimal" : "text"} />;
}
