import ABIChecker
import Reporting
import Scenarios

/// Saves each history as soon as it is there, with the run that recorded it. A full disk is told of, and ends nothing.
struct HistoryKeeper {
  let run: RunFacts
  let folder: String?
  private(set) var histories: [History] = []
  private(set) var files: [String: [String]] = [:]
  private var lost = 0
  /// Keeps other runs out of the folder.
  private let claim: Claim?

  /// - Parameter folder: where to save; it is claimed for this run.
  init(run: RunFacts, folder: String?) throws(Failure) {
    self.run = run
    self.folder = folder
    do throws(FileError) {
      claim = try folder.map { folder throws(FileError) in try HistoryFile.claim(folder: folder) }
    } catch {
      throw Failure(error)
    }
  }

  var hasFailed: Bool { lost > 0 }

  private var notes: [String] {
    lost == 0 ? [] : ["\(lost) histor\(lost == 1 ? "y" : "ies") could not be saved"]
  }

  mutating func keep(_ recorded: History) {
    var history = recorded
    history.header.run = run
    histories.append(history)
    guard let folder else { return }
    do {
      let path = try HistoryFile.save(history, in: folder)
      files[history.header.scenario, default: []].append(path)
    } catch {
      lost += 1
      Output.complain(Failure(error).message)
    }
  }

  /// The report with what was kept, and who recorded it.
  func describe(_ report: inout Report) {
    report.command = run.command
    report.hostname = run.hostname
    report.date = run.date
    report.repeatOptions = run.options
    report.files = files
    report.notes = notes
    report.histories = histories
  }
}

extension RunFacts {
  /// A run of this program on this host that begins now.
  init(command: String, options: String = "") {
    self.init(
      kvmclock: Kvmclock.version, date: Output.date, hostname: HostInspection.hostname,
      command: command, options: options)
  }
}
