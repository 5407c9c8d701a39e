/** The page. */
import { render } from "preact";
import { startSession } from "./api/session";
import { App } from "./App";
import "./styles/all.css";
import { applyTheme } from "./stores/theme";

applyTheme();
const element = document.getElementById("page");
if (element !== null) render(<App />, element);
void startSession();
