public import ABIChecker
internal import FoundationEssentials
internal import Glibc

/// A history as a file of JSON Lines: the header first, then one event a line, and a line that says that this was all.
public enum HistoryFile {
  /// `rewrite.1.kvmclock.jsonl`: scenario and attempt.
  public static func name(of header: Header) -> String {
    let scenario = header.scenario.map { character in
      character.isASCII && (character.isLetter || character.isNumber || character == "-")
        ? character : "_"
    }
    return "\(String(scenario)).\(header.attempt)\(ending)"
  }

  /// Writes a history under its own name into a folder, and returns the path.
  ///
  /// - Throws: `FileError` naming the path, the cause and a remedy.
  public static func save(_ history: History, in folder: String) throws(FileError) -> String {
    let path =
      folder.hasSuffix("/")
      ? folder + name(of: history.header)
      : "\(folder)/\(name(of: history.header))"
    try write(history, to: path)
    return path
  }

  /// Writes a history so that the path holds all of it or what it held before.
  ///
  /// - Throws: `FileError` naming the path, the cause and a remedy.
  public static func write(_ history: History, to path: String) throws(FileError) {
    var file = try AtomicFile(path)
    try file.append(Array(JSONText.line(history.header).utf8) + newline)
    for event in history.events {
      try file.append(event.line(did: Array(JSONText.line(event.action).utf8)) + newline)
    }
    try file.append(
      Array(JSONText.line(HistoryEnd(endsAfter: history.events.count)).utf8) + newline)
    try file.commit()
  }

  /// The files with histories in a folder, by name; none if it is no folder.
  public static func histories(in folder: String) -> [String] {
    let names = (try? FileManager.default.contentsOfDirectory(atPath: folder)) ?? []
    return names.filter { $0.hasSuffix(ending) }.sorted()
  }

  private static let ending = ".kvmclock.jsonl"
  private static let newline = Array("\n".utf8)

  /// Creates a folder, with those above it, and makes sure that files can be written there.
  ///
  /// - Throws: `FileError` naming the folder, the cause and a remedy.
  public static func prepare(folder: String) throws(FileError) {
    var reached = folder.hasPrefix("/") ? "/" : ""
    for part in folder.split(separator: "/") {
      reached += "\(part)/"
      guard mkdir(reached, 0o777) == 0 || errno == EEXIST else {
        throw FileError(.unwritable, path: folder, errno: errno, doing: "create the folder")
      }
    }
    let slash = folder.hasSuffix("/") ? "" : "/"
    var probe = try AtomicFile("\(folder)\(slash)probe.kvmclock.jsonl", reportedAs: folder)
    // A full disk takes an empty file and refuses its first block.
    try probe.append([UInt8](repeating: UInt8(ascii: "\n"), count: 4096))
    try probe.flush()
  }

  /// Prepares a folder for one run: it must hold no history yet, for those of two runs would be judged as one run's.
  ///
  /// - Returns: what keeps other runs out of the folder while it is kept.
  /// - Throws: `FileError` naming the folder, the cause and a remedy.
  public static func claim(folder: String) throws(FileError) -> Claim {
    try prepare(folder: folder)
    guard let claim = Claim("histories", in: folder) else {
      throw FileError(
        .unwritable, path: folder, cause: "another kvmclock records into this folder",
        remedy: "name another one")
    }
    guard histories(in: folder).isEmpty else {
      throw FileError(
        .unwritable, path: folder, cause: "it holds the histories of an earlier run",
        remedy: "name another folder, or remove them")
    }
    return claim
  }
}

/// The last line of a history: a file that lacks it is cut off.
struct HistoryEnd: Codable {
  static let start = Array("{\"endsAfter\":".utf8)

  /// How many events there are.
  var endsAfter: Int
}
