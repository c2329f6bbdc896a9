//! Messages between the processes of a deployment, over core NATS: what each reports of its actors, and what operators tell
//! an actor of another process. `actors/process_reports.rs` sends and receives them, on a connection of its own.

use std::time::Duration;

use async_nats::connection::State;
use async_nats::{Client, Message, Subject, Subscriber};
use bytes::Bytes;
use tokio::time::timeout;
use uuid::Uuid;

use super::NatsError;
use super::connection::connect;
use crate::config::NatsOptions;

/// The first word of all subjects of processes: `likewise.processes.<deployment>.<report|command>.<process>`.
const PROCESSES: &str = "likewise.processes";

/// The longest wait for the answer to a command.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// The largest message that is read, in bytes. A report has about 10 KB.
const LARGEST: usize = 512 * 1024;

/// A connection for messages between processes.
#[derive(Debug, Clone)]
pub struct ProcessLink {
    client: Client,
}

/// A message of a process.
#[derive(Debug)]
pub enum ProcessMessage {
    /// A report.
    Report {
        /// The id of the process.
        process: String,
        /// Its JSON.
        body: Bytes,
    },
    /// A command to this process.
    Command {
        /// Its JSON.
        body: Bytes,
        /// Where the answer goes.
        reply: Subject,
    },
}

/// The messages that a process receives.
pub struct ProcessMessages {
    reports: Subscriber,
    commands: Subscriber,
}

impl ProcessLink {
    /// Starts to connect, without waiting for the connection.
    ///
    /// # Errors
    /// If a setting cannot be used.
    pub async fn connect(options: &NatsOptions) -> Result<Self, NatsError> {
        let client = connect(options).await?;
        Ok(Self { client })
    }

    /// Returns whether it is connected now.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.client.connection_state() == State::Connected
    }

    /// Subscribes to the reports of the deployment's processes, and to commands to this one.
    ///
    /// # Errors
    /// If the connection has ended.
    pub async fn listen(
        &self,
        deployment: Uuid,
        process: &str,
    ) -> Result<ProcessMessages, NatsError> {
        let subscribe = async |subject| {
            let subscribed = self.client.subscribe(subject).await;
            subscribed.map_err(|error| NatsError::Unavailable(error.to_string()))
        };
        Ok(ProcessMessages {
            reports: subscribe(format!("{PROCESSES}.{deployment}.report.*")).await?,
            commands: subscribe(command_subject(deployment, process)).await?,
        })
    }

    /// Sends a report of this process. Nothing depends on it, so it is sent once.
    ///
    /// # Errors
    /// If it cannot be sent.
    pub async fn report(
        &self,
        deployment: Uuid,
        process: &str,
        body: Bytes,
    ) -> Result<(), NatsError> {
        let subject = format!("{PROCESSES}.{deployment}.report.{process}");
        self.send(subject.into(), body).await
    }

    /// Sends the answer to a command.
    ///
    /// # Errors
    /// If it cannot be sent.
    pub async fn answer(&self, reply: Subject, body: Bytes) -> Result<(), NatsError> {
        self.send(reply, body).await
    }

    async fn send(&self, subject: Subject, body: Bytes) -> Result<(), NatsError> {
        let sent = self.client.publish(subject, body).await;
        sent.map_err(|error| NatsError::Unavailable(error.to_string()))
    }

    /// Waits until everything is sent.
    ///
    /// # Errors
    /// If the connection has ended.
    pub async fn flush(&self) -> Result<(), NatsError> {
        let flushed = self.client.flush().await;
        flushed.map_err(|error| NatsError::Unavailable(error.to_string()))
    }

    /// Sends a command to a process, and returns its answer.
    ///
    /// # Errors
    /// If the process does not answer within two seconds.
    pub async fn command(
        &self,
        deployment: Uuid,
        process: &str,
        body: Bytes,
    ) -> Result<Bytes, NatsError> {
        let request = self
            .client
            .request(command_subject(deployment, process), body);
        match timeout(ANSWER_TIMEOUT, request).await {
            Ok(Ok(answer)) => Ok(answer.payload),
            Ok(Err(error)) => Err(NatsError::Unavailable(error.to_string())),
            Err(_) => Err(NatsError::Unavailable(format!(
                "no answer within {} s",
                ANSWER_TIMEOUT.as_secs()
            ))),
        }
    }
}

impl ProcessMessages {
    /// Returns the next message; `None` when the connection has ended.
    pub async fn next(&mut self) -> Option<ProcessMessage> {
        use futures_util::StreamExt;
        loop {
            let message: Message = tokio::select! {
                message = self.reports.next() => message?,
                message = self.commands.next() => message?,
            };
            if message.payload.len() > LARGEST {
                continue;
            }
            let Message {
                subject,
                reply,
                payload: body,
                ..
            } = message;
            let mut words = subject.as_str().rsplit('.');
            match (words.next(), words.next(), reply) {
                (Some(process), Some("report"), _) => {
                    let process = process.to_owned();
                    return Some(ProcessMessage::Report { process, body });
                }
                (_, Some("command"), Some(reply)) => {
                    return Some(ProcessMessage::Command { body, reply });
                }
                _ => {}
            }
        }
    }
}

fn command_subject(deployment: Uuid, process: &str) -> String {
    format!("{PROCESSES}.{deployment}.command.{process}")
}
