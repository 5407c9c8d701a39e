/** Addresses of the server. The page is at `<root>/ui/`, and the root may be below a path of its own. */

export function addressOf(path: string): string {
  return new URL(`../${path}`, document.baseURI).href;
}

export const SESSION = "./session";
export const TREE_FILE = "./tree-file";
