// Who uses the console, and what the token allows. No view shows a button that the service would refuse.

import { createContext } from "preact";
import { useContext } from "preact/hooks";

export interface Session {
  /** The name in the service's records. */
  operator: string;
  scopes: string[];
  /** Whether `/admin` is unauthenticated. */
  unauthenticated: boolean;
  fault_injection: boolean;
}

export const SessionContext = createContext<Session | null>(null);

export const useSession = () => useContext(SessionContext)!;

/** Whether the caller may do what changes something. */
export const useMayOperate = () => useSession().scopes.includes("admin:operate");
