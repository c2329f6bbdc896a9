// Lists of rows, page by page: the first page renews itself, and stops while rows are selected or more are shown.

import { useEffect, useState } from "preact/hooks";
import { message, request } from "./api";
import { type Answer, useQuery } from "./hooks";
import { tellError } from "./ui";

const EVERY_MS = 4_000;

/** What a page of rows has besides them. */
interface Paged {
  next_cursor?: string | null;
}

export interface Pages<P, R> {
  page: Answer<P>;
  rows: R[];
  /** Whether there are more rows than the first page shows. */
  hasMore: boolean;
  /** The rows that are selected and shown. */
  chosen: R[];
  isSelected: (row: R) => boolean;
  toggle: (row: R) => void;
  toggleAll: () => void;
  clear: () => void;
  /** Loads the next page; absent after the last one. */
  loadMore?: () => Promise<void>;
  /** Returns to the first page, as it is now. */
  reload: () => void;
}

/**
 * The rows of a path that takes a cursor. `idOf` names a row. What is selected or read further down does not move under the
 * operator.
 */
export function usePages<P extends Paged, R>(path: (cursor?: string) => string, rowsOf: (page: P) => R[], idOf: (row: R) => string): Pages<P, R> {
  const [selected, setSelected] = useState<Set<string>>(new Set());
  const [more, setMore] = useState<R[]>([]);
  const [next, setNext] = useState<string | undefined>();
  const first = path();
  const page = useQuery<P>(first, EVERY_MS, selected.size > 0 || more.length > 0);
  useEffect(() => {
    setSelected(new Set());
    setMore([]);
  }, [first]);
  const rows = [...(page.value ? rowsOf(page.value) : []), ...more];
  const chosen = rows.filter((row) => selected.has(idOf(row)));
  const cursor = more.length > 0 ? next : (page.value?.next_cursor ?? undefined);
  const loadMore = async () => {
    try {
      const answer = await request<P>(path(cursor));
      setMore((before) => [...before, ...rowsOf(answer)]);
      setNext(answer.next_cursor ?? undefined);
    } catch (error) {
      tellError(message(error));
    }
  };
  const toggle = (row: R) => {
    const now = new Set(selected);
    if (!now.delete(idOf(row))) now.add(idOf(row));
    setSelected(now);
  };
  const clear = () => setSelected(new Set());
  return {
    page,
    rows,
    hasMore: more.length > 0,
    chosen,
    isSelected: (row) => selected.has(idOf(row)),
    toggle,
    toggleAll: () => setSelected(chosen.length === rows.length ? new Set() : new Set(rows.map(idOf))),
    clear,
    loadMore: cursor ? loadMore : undefined,
    reload: () => {
      clear();
      setMore([]);
      page.reload();
    },
  };
}
