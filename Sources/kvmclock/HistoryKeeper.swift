import ABIChecker
import Reporting

/// Saves each history as soon as it is there. A full disk is told of, and ends nothing.
struct HistoryKeeper {
  let folder: String?
  /// Whether a report will show what was recorded.
  let remembers: Bool
  private(set) var histories: [History] = []
  private(set) var files: [String: [String]] = [:]
  private var lost = 0
  /// Keeps other runs out of the folder.
  private var claim: Claim?

  init(folder: String?, remembers: Bool) {
    self.folder = folder
    self.remembers = remembers
  }

  var hasFailed: Bool { lost > 0 }

  var notes: [String] {
    lost == 0 ? [] : ["\(lost) histor\(lost == 1 ? "y" : "ies") could not be saved"]
  }

  mutating func prepare() throws(Failure) {
    guard let folder else { return }
    do { claim = try HistoryFile.claim(folder: folder) } catch { throw Failure(error) }
  }

  mutating func keep(_ history: History) {
    if remembers { histories.append(history) }
    guard let folder else { return }
    do {
      let path = try HistoryFile.save(history, in: folder)
      files[history.header.scenario, default: []].append(path)
    } catch {
      lost += 1
      Output.complain(Failure(error).message)
    }
  }
}
