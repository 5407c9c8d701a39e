"""The former path of `apflow.core`; its modules re-export, one file per documented path."""
