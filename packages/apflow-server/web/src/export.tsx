/** One run in one file, to be read without a server. */
import { render } from "preact";
import { ExportedRun } from "./ExportedRun";
import { readDocument } from "./model/run_document";
import "./styles/all.css";

const element = document.getElementById("page");
const found = readDocument(document.getElementById("run")?.textContent ?? "null");
if (element !== null) render(<ExportedRun document={found} />, element);
