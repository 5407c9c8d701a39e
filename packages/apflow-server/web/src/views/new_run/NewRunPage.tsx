export function NewRunPage({ query }: { query: Record<string, string> }) { return <div>{query["x"]}</div>; }
