/** A choice of a few ways to look at something, as buttons beside each other. */

export interface ChoiceProps<T extends string> {
  label: string;
  chosen: T;
  choices: readonly (readonly [value: T, text: string])[];
  onChoose: (value: T) => void;
}

export function Choice<T extends string>({ label, chosen, choices, onChoose }: ChoiceProps<T>) {
  return (
    <div class="tabs" role="group" aria-label={label}>
      {choices.map(([value, text]) => (
        <button key={value} type="button" class="tab" aria-pressed={chosen === value} onClick={() => onChoose(value)}>{text}</button>
      ))}
    </div>
  );
}
