export function ExecutorsPage({ id }: { id: string | null }) { return <div>{id}</div>; }
