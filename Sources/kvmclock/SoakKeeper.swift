import ABIChecker
import Glibc
import Reporting
import Scenarios

/// Carries a soak's state from round to round and onto the disk. What can't be written is told of, and ends nothing.
final class SoakKeeper {
  private(set) var state: SoakState
  private let checkpoint: String
  private let prometheus: String?
  private let folder: String?
  private let began = ContinuousClock.now
  private let before: UInt64
  private var saved = ContinuousClock.now
  private var progress = Progress()
  private var histories: [History] = []
  /// What a report can show: the first round that broke a rule, or else the last one.
  private(set) var shown: [History] = []
  private var hasBroken = false
  private var kept = 0
  /// The files that could not be written when it was tried last.
  private var failing: Set<String> = []
  private var lost = false

  /// Half of what may be lost: a scenario can be under way when the time comes.
  private static let interval = Duration.seconds(30)
  private static let mostRounds = 20

  init(_ state: SoakState, checkpoint: String, prometheus: String?, history: String?) {
    self.state = state
    self.checkpoint = checkpoint
    self.prometheus = prometheus
    folder = history
    before = state.elapsed
    self.state.isFinished = false
  }

  var hasFailed: Bool { lost || !failing.isEmpty }

  /// Finds out now, and not after hours, whether the files can be written.
  func begin() throws(Failure) {
    update()
    do {
      try state.write(to: checkpoint)
      if let prometheus { try PrometheusText(state).write(to: prometheus) }
      if let folder { try HistoryFile.prepare(folder: folder) }
    } catch {
      throw Failure(error)
    }
  }

  func isOver(after nanoseconds: UInt64?) -> Bool {
    update()
    return nanoseconds.map { state.elapsed >= $0 } ?? false
  }

  func keep(_ history: History) {
    histories.append(history)
    state.statistics.add(Timeline(history))
    update()
    progress.show(state.progress)
    if ContinuousClock.now - saved >= Self.interval { save() }
  }

  func end(_ round: UInt64, _ result: RunResult, newPairs: Int) {
    defer { histories = [] }
    if result.wasCancelled, result.verdicts.isEmpty { return }
    state.add(result.verdicts, retries: result.retries)
    state.newPairs = newPairs
    let isBroken = result.verdicts.contains { $0.outcome.isBroken && $0.known == nil }
    if !hasBroken { shown = histories }
    hasBroken = hasBroken || isBroken
    if isBroken { keep(round) }
  }

  func finish() {
    update()
    state.isFinished = true
    save()
    progress.end()
  }

  private func update() {
    let running = (ContinuousClock.now - began) / .nanoseconds(1)
    state.elapsed = before &+ UInt64(max(0, running))
    state.written = UInt64(max(0, Glibc.time(nil)))
  }

  private func save() {
    saved = .now
    attempt(checkpoint) { () throws(FileError) in try state.write(to: checkpoint) }
    if let prometheus {
      attempt(prometheus) { () throws(FileError) in try PrometheusText(state).write(to: prometheus)
      }
    }
  }

  /// Complains of a file once, and again only when it had been written meanwhile.
  private func attempt(_ path: String, _ write: () throws(FileError) -> Void) {
    do {
      try write()
      failing.remove(path)
    } catch {
      if failing.insert(path).inserted { Output.complain(Failure(error).message) }
    }
  }

  private func keep(_ round: UInt64) {
    guard let folder, kept < Self.mostRounds else { return }
    kept += 1
    let place = "\(folder)/round-\(round)"
    do {
      try HistoryFile.prepare(folder: place)
      for history in histories {
        let path = try HistoryFile.save(history, in: place)
        let scenario = history.header.scenario
        if state.files[scenario]?.first.map({ !$0.hasPrefix("\(place)/") }) ?? false { continue }
        state.files[scenario, default: []].append(path)
      }
    } catch {
      lost = true
      Output.complain(Failure(error).message)
    }
  }
}
