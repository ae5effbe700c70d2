package import ABIChecker

/// A VMM that can be tested: it makes machines that boot the guest.
package protocol VirtualMachineMonitor: AnyObject {
  /// Its name and version.
  var name: String { get }
  /// What it can be asked for.
  var verbs: Set<VMMVerb> { get }
  /// - Parameters:
  ///   - vcpus: how many run from the start.
  ///   - spare: how many more there is room for.
  func start(vcpus: Int, spare: Int, from origin: Origin) throws(VMMError) -> any MonitoredMachine
}

/// Where a machine gets its state from.
package enum Origin: Hashable, Sendable {
  /// It boots.
  case boot
  /// A file that `save` wrote.
  case file(String)
  /// Another machine, which will migrate to this place.
  case migration(String)
}

/// A machine under a VMM.
package protocol MonitoredMachine: AnyObject {
  var console: Console { get }
  func pause() throws(VMMError)
  func resume() throws(VMMError)
  /// A paused machine's state goes to a file.
  func save(to path: String) throws(VMMError)
  /// A machine that was started from a file or by a migration has its state.
  func awaitState() throws(VMMError)
  /// Goes over to a machine that was started with this place; returns when it has.
  func migrate(to place: String) throws(VMMError)
  /// The same, paused on the way; the other machine has to be resumed.
  func migratePaused(to place: String, _ pause: () throws(VMMError) -> Void) throws(VMMError)
  func reset() throws(VMMError)
  func plug() throws(VMMError)
  func unplug() throws(VMMError)
  /// Whether the vCPU is gone, after the guest let it go.
  func awaitUnplugged() throws(VMMError)
  func quit()
}

extension MonitoredMachine {
  /// Where nothing can be asked of a machine that migrates, it is paused before.
  package func migratePaused(
    to place: String, _ pause: () throws(VMMError) -> Void
  ) throws(VMMError) {
    try pause()
    try migrate(to: place)
  }
}
