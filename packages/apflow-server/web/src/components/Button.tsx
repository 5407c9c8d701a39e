/** Buttons: of an action of the page, and of an operation of the server. */
import type { ComponentChildren } from "preact";
import type { Action } from "../model/action";
import { isBusy } from "../stores/perform";
import { Icon, type IconName } from "./Icon";

export interface ButtonProps {
  onClick?: (event: MouseEvent) => void;
  children?: ComponentChildren;
  icon?: IconName;
  kind?: "plain" | "main" | "danger" | "quiet";
  label?: string;
  title?: string;
  isDisabled?: boolean;
  isPressed?: boolean;
  isSubmit?: boolean;
}

export function Button({ onClick, children, icon, kind = "plain", label, title, isDisabled, isPressed, isSubmit }: ButtonProps) {
  return (
    <button
      type={isSubmit ? "submit" : "button"}
      class={`button button-${kind}${children ? "" : " is-square"}`}
      onClick={onClick}
      aria-label={label}
      title={title ?? label}
      disabled={isDisabled}
      aria-pressed={isPressed}
    >
      {icon && <Icon name={icon} />}
      {children}
    </button>
  );
}

/** A button that does an action. It is disabled while the action is being done. */
export function ActionButton({ action, onClick, kind }: { action: Action; onClick: () => void; kind?: "plain" | "main" | "danger" | "quiet" }) {
  return (
    <Button onClick={onClick} kind={kind ?? "plain"} isDisabled={isBusy(action)}>
      {action.title}
    </Button>
  );
}
