//! Triggers that make the database refuse or change rows.

use super::Database;

impl Database {
    /// From now on, refuses every row of `video_likes` for this user, which makes it the bad row of a batch.
    pub fn refuse_likes_of(&self, user: i64, why: &str) {
        self.refuse_likes_with_code(user, why, "45000", "P0001");
    }

    /// As [`refuse_likes_of`](Self::refuse_likes_of), with the error of a constraint. A trigger of SQLite cannot choose
    /// its error code.
    #[track_caller]
    pub fn constrain_likes_of(&self, user: i64, why: &str) {
        self.refuse_likes_with_code(user, why, "23000", "23514");
    }

    /// Ends what [`refuse_likes_of`](Self::refuse_likes_of) began.
    #[track_caller]
    pub fn accept_likes_of(&self, user: i64) {
        let drop = match self {
            Self::Sqlite(_) | Self::MariaDb(_) => format!("DROP TRIGGER refuse_{user}"),
            Self::Postgres(_) => format!("DROP TRIGGER refuse_{user} ON video_likes"),
        };
        self.execute(&[&drop]);
    }

    fn refuse_likes_with_code(&self, user: i64, why: &str, mysql: &str, postgres: &str) {
        match self {
            Self::Sqlite(_) => self.execute(&[&format!(
                "CREATE TRIGGER refuse_{user} BEFORE INSERT ON video_likes \
                 WHEN NEW.user_id = {user} BEGIN SELECT RAISE(ABORT, '{why}'); END"
            )]),
            Self::MariaDb(_) => self.execute(&[&format!(
                "CREATE TRIGGER refuse_{user} BEFORE INSERT ON video_likes FOR EACH ROW \
                 IF NEW.user_id = {user} THEN \
                 SIGNAL SQLSTATE '{mysql}' SET MESSAGE_TEXT = '{why}'; END IF"
            )]),
            Self::Postgres(_) => self.trigger(
                &format!("refuse_{user}"),
                &format!("BEFORE INSERT ON video_likes FOR EACH ROW WHEN (NEW.user_id = {user})"),
                &format!("RAISE EXCEPTION '{why}' USING ERRCODE = '{postgres}'; RETURN NEW;"),
            ),
        }
    }

    /// From now on, each new ledger row of this user is claimed at once by another worker, which holds the second token
    /// until a far future. Refuses rows that are completed already, so that the events take two steps.
    pub fn claim_for_another_worker(&self, user: i64) {
        const FAR: &str = "'2100-01-01 00:00:00'";
        const WHY: &str = "'claimed by a test'";
        match self {
            Self::Sqlite(_) => self.execute(&[
                &format!(
                    "CREATE TRIGGER claim_{user} AFTER INSERT ON sync_events \
                     WHEN NEW.user_id = {user} BEGIN UPDATE sync_events SET status = 'processing', \
                     fencing_token = 2, next_attempt_at = {FAR}, lease_until = {FAR} \
                     WHERE id = NEW.id; END"
                ),
                &format!(
                    "CREATE TRIGGER refuse_completed_{user} BEFORE INSERT ON sync_events \
                     WHEN NEW.user_id = {user} AND NEW.status = 'completed' \
                     BEGIN SELECT RAISE(ABORT, {WHY}); END"
                ),
            ]),
            Self::MariaDb(_) => self.execute(&[&format!(
                "CREATE TRIGGER claim_{user} BEFORE INSERT ON sync_events FOR EACH ROW \
                 IF NEW.user_id = {user} THEN \
                 IF NEW.status = 'completed' THEN \
                 SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = {WHY}; END IF; \
                 SET NEW.status = 'processing', NEW.fencing_token = 2, \
                 NEW.next_attempt_at = {FAR}, NEW.lease_until = {FAR}; END IF"
            )]),
            Self::Postgres(_) => self.trigger(
                &format!("claim_{user}"),
                &format!("BEFORE INSERT ON sync_events FOR EACH ROW WHEN (NEW.user_id = {user})"),
                &format!(
                    "IF NEW.status = 'completed' THEN RAISE EXCEPTION {WHY}; END IF; \
                     NEW.status := 'processing'; NEW.fencing_token := 2; \
                     NEW.next_attempt_at := {FAR}; NEW.lease_until := {FAR}; RETURN NEW;"
                ),
            ),
        }
    }

    /// PostgreSQL requires a function for each trigger.
    fn trigger(&self, name: &str, when: &str, body: &str) {
        self.execute(&[
            &format!(
                "CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS \
                 $$ BEGIN {body} END $$"
            ),
            &format!("CREATE TRIGGER {name} {when} EXECUTE FUNCTION {name}()"),
        ]);
    }
}
