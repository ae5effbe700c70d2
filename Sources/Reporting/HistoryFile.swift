public import ABIChecker
internal import Glibc

/// A history as a file of JSON Lines: the header first, then one event a line.
public enum HistoryFile {
  /// `rewrite.1.kvmclock.jsonl`: scenario and attempt.
  public static func name(of header: Header) -> String {
    let scenario = header.scenario.map { character in
      character.isASCII && (character.isLetter || character.isNumber || character == "-")
        ? character : "_"
    }
    return "\(String(scenario)).\(header.attempt).kvmclock.jsonl"
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
    do throws(FileError) {
      try file.append(Array(JSONText.line(history.header).utf8) + newline)
      for event in history.events {
        try file.append(event.line(did: Array(JSONText.line(event.action).utf8)) + newline)
      }
      try file.commit()
    } catch {
      file.discard()
      throw error
    }
  }

  /// The files with histories in a folder, by name; none if it is no folder.
  public static func histories(in folder: String) -> [String] {
    guard let entries = opendir(folder) else { return [] }
    defer { closedir(entries) }
    var names: [String] = []
    while let entry = readdir(entries) {
      let name = withUnsafeBytes(of: &entry.pointee.d_name) { bytes in
        String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
      }
      if name.hasSuffix(".kvmclock.jsonl") { names.append(name) }
    }
    return names.sorted()
  }

  private static let newline = Array("\n".utf8)

  /// Creates a folder, with those above it, and makes sure that files can be written there.
  ///
  /// - Throws: `FileError` naming the folder, the cause and a remedy.
  /// - Parameter isNew: whether a folder that holds histories is refused: one folder is for one run.
  public static func prepare(folder: String, isNew: Bool = false) throws(FileError) {
    if isNew, let held = histories(in: folder).first {
      throw FileError(
        .unwritable, path: folder,
        cause: "it holds the histories of another run (\(held)); name a new folder")
    }
    var reached = folder.hasPrefix("/") ? "/" : ""
    for part in folder.split(separator: "/") {
      reached += "\(part)/"
      guard mkdir(reached, 0o777) == 0 || errno == EEXIST else {
        throw FileError(.unwritable, path: folder, errno: errno, doing: "create the folder")
      }
    }
    let slash = folder.hasSuffix("/") ? "" : "/"
    var probe = try AtomicFile("\(folder)\(slash)probe.kvmclock.jsonl", reportedAs: folder)
    defer { probe.discard() }
    // A full disk takes an empty file and refuses its first block.
    try probe.append([UInt8](repeating: UInt8(ascii: "\n"), count: 4096))
    try probe.flush()
  }
}
