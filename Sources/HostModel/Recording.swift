internal import ABIChecker
internal import FoundationEssentials
internal import Glibc
internal import KVM

/// A history that was recorded on another host, for what a development machine may lack: a TSC that can be moved, and a host that can
/// be changed.
struct Recording: Sendable {
  /// The saved history, as `kvmclock run --history` writes it.
  let text: String

  /// - Throws: `KVMError` in place of a history that can't be read, which is a defect of this program.
  func history() throws(KVMError) -> History {
    let lines = text.split(separator: "\n").map { Data($0.utf8) }
    let decoder = JSONDecoder()
    do {
      var history = History(header: try decoder.decode(Header.self, from: lines[0]))
      history.events = try lines.dropFirst().map { try decoder.decode(Event.self, from: $0) }
      return history
    } catch {
      throw KVMError(request: "a built-in recording", errno: EBADMSG, remedy: "\(error)")
    }
  }
}
